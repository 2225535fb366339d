"""Clips to train on: which they are, what they are as tensors, what the reference makes of them."""
