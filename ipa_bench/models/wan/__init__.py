"""Wan-VACE: the only room that knows how diffusers' Wan classes are fed and sampled."""
