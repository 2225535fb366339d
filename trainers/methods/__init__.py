"""The methods of post-training: pure losses, and the batch that they are given."""
