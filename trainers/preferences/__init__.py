"""Which of two clips of the same people is better: people's votes in a file, and faults of known amount.

``votes`` is the file, ``page`` the page that writes it, ``outcomes`` what several votes come to, ``synthetic`` pairs of
the built-in world.
"""

from trainers.preferences.votes import Comparison, Comparisons, Vote, Votes, read_comparisons, read_votes

__all__ = ["Comparison", "Comparisons", "Vote", "Votes", "read_comparisons", "read_votes"]
