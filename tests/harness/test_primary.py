"""What models are ranked on: what the suite names, else what none of its models was trained on."""

from dataclasses import replace
from pathlib import Path

import pytest

from ipa_bench.errors import UserError
from ipa_bench.harness.header import metrics_of, primary_of
from ipa_bench.models.specs import FolderSpec
from ipa_bench.suite import Suite
from ipa_bench.types import Case

CLIP = Path("clip.mp4")
CASE = Case("case", CLIP, CLIP)


def suite(*trained_on, cases=(CASE,), **options):
    models = [
        FolderSpec(name=f"model{i}", kind="folder", path=Path("videos"), trained_on=names)
        for i, names in enumerate(((), *trained_on))
    ]
    return Suite("s", tuple(cases), tuple(models), **options)


def test_without_trained_models_it_is_the_composite():
    assert primary_of(suite()) == "hand_quality@4"
    assert primary_of(suite(("rest.psnr",))) == "hand_quality@4"


def test_a_model_chosen_by_hands_is_ranked_by_other_eyes():
    assert primary_of(suite(("hand_quality@4", "hand_quality.shape@4"))) == "hand.ssim@1"
    assert primary_of(suite(("hand.recall",))) == "hand.ssim@1"
    assert primary_of(suite(("hand.recall",), ("rest.psnr@1",))) == "hand.lpips.embedded@1"


def test_the_judge_ranks_cases_of_the_built_in_world():
    rendered = Case("case", CLIP, CLIP, world="person/test/0/0")
    chosen = ("hand_quality@4",)
    assert primary_of(suite(chosen, cases=(rendered,))) == "truth.hand_error@1"
    assert primary_of(suite(chosen, cases=(rendered, replace(CASE, id="filmed")))) == "hand.ssim@1"
    assert "truth.hand_error@1" in {metric.info.id for metric in metrics_of(suite(cases=(rendered,)))}
    assert "truth.hand_error@1" not in {metric.info.id for metric in metrics_of(suite())}


def test_what_the_suite_names_stays():
    assert primary_of(suite(("hand_quality@4",), primary="hand_quality")) == "hand_quality@4"
    with pytest.raises(UserError, match="did you mean 'hand_quality'"):
        primary_of(suite(primary="hand_qualty"))


def test_where_no_other_eyes_see_it_is_the_composite():
    without = suite(("hand_quality@4",), cases=(CASE, Case("other", CLIP)))
    assert primary_of(without) == "hand_quality@4"
    everything = suite(("hand.recall", "rest.psnr", "frame.lpips.embedded"))
    assert primary_of(everything) == "hand_quality@4"


def test_it_is_scored_where_the_suite_names_others():
    found = metrics_of(suite(("hand_quality@4",), metrics=("hand.recall",)))
    assert [metric.info.id for metric in found] == ["hand.recall@1", "hand.ssim@1"]
