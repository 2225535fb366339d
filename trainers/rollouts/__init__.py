"""Rounds: the model that is trained makes clips, a reward looks at them, and training goes on with them."""
