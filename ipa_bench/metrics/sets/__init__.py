"""Distances between sets of videos: pure arithmetic on features, with intervals."""
