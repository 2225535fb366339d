"""Two or more models on the same cases: intervals, paired differences, verdicts, ranks. Pure arithmetic.

The unit of evidence is the *identity*: clips of one person are not independent, so every value is first averaged
within its identity, and the identities' means carry the statistics (the cluster-mean form of the clustered and paired
standard errors of Miller, "Adding error bars to evals", arXiv 2411.00640, with Student's t for small numbers).
"""

from ipa_bench.compare.board import compare, leaderboard
from ipa_bench.compare.crossed import crossed
from ipa_bench.compare.intervals import Difference, Values, detectable, difference, holm, interval

__all__ = ["Difference", "Values", "compare", "crossed", "detectable", "difference", "holm", "interval", "leaderboard"]
