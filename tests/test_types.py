"""A value or its reason: one rule for every noun that is one, and the files that hold them."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from ipa_bench.cost import Amount
from ipa_bench.metrics import Measured
from ipa_bench.metrics.sets.hand_motion import MotionFeatures
from ipa_bench.store.sets import SetResult
from ipa_bench.types import Finding, Score

MAKERS = {
    "Score": lambda value, reason: Score("case", 0, "model", "m@1", value, reason),
    "Measured": Measured,
    "Amount": Amount,
    "MotionFeatures": MotionFeatures,
    "SetResult": lambda value, reason: SetResult("m@1", "", "model", "", value, reason),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_finding_is_a_value_or_a_reason(kind):
    make, given = MAKERS[kind], np.ones(3) if kind == "MotionFeatures" else 1.0
    for value, reason in ((given, "both"), (None, None)):
        with pytest.raises(ValueError, match=f"a {kind} has a value or a reason, not both or neither"):
            make(value, reason)
    for value, reason in ((given, None), (None, "why")):
        found = make(value, reason)
        assert isinstance(found, Finding)
        assert (found.value is value, found.reason) == (True, reason)


@pytest.mark.parametrize("kind", ["Score", "Measured", "Amount"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan")])
def test_a_number_is_finite(kind, value):
    with pytest.raises(ValueError, match="is finite"):
        MAKERS[kind](value, None)


def test_an_amount_is_not_negative_and_an_array_is_taken_as_it_is():
    with pytest.raises(ValueError, match="not negative"):
        Amount(-1.0)
    assert MotionFeatures(np.array([np.nan])).reason is None


def test_files_hold_them_as_version_0_1_did():
    score = '{"case": "c", "seed": 1, "model": "m", "metric": "x@1", "value": 0.5, "reason": null}'
    assert json.dumps(asdict(Score("c", 1, "m", "x@1", 0.5))) == score
    assert json.dumps(asdict(Amount(reason="why"))) == '{"value": null, "reason": "why"}'
    absent = (
        '{"metric": "fvd@1", "definition": "", "model": "m", "baseline": "", "distances": null, "reason": "no file", '
        '"skipped": 0, "skipped_why": ""}'
    )
    assert json.dumps(SetResult("fvd@1", "", "m", reason="no file").to_json()) == absent
