"""Scores become good samples, pairs, or all candidates with their scores: of train cases, never of test cases."""

from ipa_bench.select.candidates import Candidate, Candidates, candidates, read_candidates, write_candidates
from ipa_bench.select.good import Rule, SelectedVideo, Selection, read_selection, select, write_selection
from ipa_bench.select.looked import TRAIN, splits_of
from ipa_bench.select.preferences import Pairs, pairs, read_pairs, write_pairs
from ipa_bench.select.run import Chooser, choose, choose_candidates, choose_pairs, chooser, left_out

__all__ = [
    "TRAIN",
    "Candidate",
    "Candidates",
    "Chooser",
    "Pairs",
    "Rule",
    "SelectedVideo",
    "Selection",
    "candidates",
    "choose",
    "choose_candidates",
    "choose_pairs",
    "chooser",
    "left_out",
    "pairs",
    "read_candidates",
    "read_pairs",
    "read_selection",
    "select",
    "splits_of",
    "write_candidates",
    "write_pairs",
    "write_selection",
]
