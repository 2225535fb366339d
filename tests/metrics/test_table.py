"""The tables: families are those of the observers, and what a model was trained on marks its whole family."""

import pytest

from ipa_bench.metrics.table import METRICS, PART_IDS, RANKED_ON, SET_METRICS, find, is_evidence, no_evidence
from ipa_bench.observers.table import OBSERVERS

CHOSEN = ("hand_quality@4", *PART_IDS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.info.id)
def test_a_metric_looks_through_the_networks_of_its_observers(metric):
    families = {observer.name: observer.family for observer in OBSERVERS}
    assert set(metric.info.family) == {family for name in metric.reads for family in families[name]} != set()


def test_what_the_selector_chose_is_marked_on_its_family_and_not_on_the_judges():
    assert not is_evidence("hand.recall@1", ["hand_quality@1"])
    assert not is_evidence("hand.keypoint_error@1", ["hand_quality@4"])
    assert is_evidence("truth.hand_error@1", ["hand_quality@1", *PART_IDS])


def test_sets_have_families_too():
    assert all(info.family for info in SET_METRICS)


def test_a_model_chosen_by_the_composite_is_marked_wherever_the_same_networks_look():
    for metric in ("hand.recall", "hand.recall@1", "hand.bone_drift@1", "hand_quality_free@1", "hand.fvmd@1"):
        assert not is_evidence(metric, CHOSEN), metric
    for metric in ("rest.psnr", "hand.ssim@1", "hand.lpips@1", "frame.lpips.embedded@1", "fvd@1", "fvd.embedded@1"):
        assert is_evidence(metric, CHOSEN), metric
    assert is_evidence("hand.recall@1", ())


def test_families_are_told_apart_and_versions_are_not():
    assert not is_evidence("rest.ssim@1", ["hand.psnr"])
    assert not is_evidence("hand.lpips@1", ["frame.lpips@1"])
    assert is_evidence("hand.lpips.embedded@1", ["frame.lpips@1"])
    assert not is_evidence("fvd.disco@1", ["fvd@1"])
    # what no table knows stands for itself
    assert not is_evidence("reward.other@2", ["reward.other@1"])
    assert is_evidence("hand.recall@1", ["reward.other@1"])


def test_all_that_is_no_evidence_is_listed_in_report_order():
    found = no_evidence(["hand.keypoint_error"])
    assert found[0] == "hand_quality@4"
    assert found[-1] == "hand.fvmd@1"
    assert {"hand.keypoint_error@1", "hand.stall@1"} < set(found)
    assert not [name for name in found if "psnr" in name or "ssim" in name or "lpips" in name or "fvd." in name]
    assert no_evidence([]) == ()


def test_what_models_are_ranked_on_by_default_is_of_different_families():
    families = [find(name).info.family for name in RANKED_ON]
    assert len(set(families)) == len(RANKED_ON)
