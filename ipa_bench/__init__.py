"""ipa-bench: score human-animation videos, compare models on them, and post-train on the good samples."""

__version__ = "0.1.0"
