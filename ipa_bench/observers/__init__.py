"""Observers look: neural networks and pixel arithmetic over the frames of a video, remembered by content."""
