"""The built-in world: procedural people with articulated hands, their cases, and a tiny Wan-VACE checkpoint."""
