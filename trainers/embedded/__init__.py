"""How what ships for the embedded world is made: the tiny checkpoint, its base, and the small networks."""
