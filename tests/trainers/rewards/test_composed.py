"""Rewards add up by hand, a penalty stops counting, all families are marked, and what cannot work is said."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.config.fields import checked
from ipa_bench.errors import UserError
from ipa_bench.metrics import Measured
from ipa_bench.metrics.base import unknown
from ipa_bench.metrics.table import is_evidence, no_evidence
from ipa_bench.types import Case, MetricInfo
from tests.clips import noise
from trainers import rewards
from trainers.rewards import Reward, RewardConfig, check_usable
from trainers.rewards.composed import Term, composed

CASE = Case("anna", Path("driving.mp4"), Path("truth.mp4"))
CLIPS = [Path(f"{name}.mp4") for name in "abcd"]


def said(name, *values, better="higher", needs="driving", family=()):
    """A reward that gives these values for the first, second, ... clip; None: nothing."""
    info = MetricInfo(name, "unit", better, "the test", "nothing", needs, family=family)
    found = [unknown(f"{name} is blind") if value is None else Measured(value) for value in values]
    return Reward(info, lambda _, clips: found[: len(clips)])


def values(reward):
    return [found.value for found in reward.look(CASE, CLIPS)]


def test_raw_is_a_weighted_sum_with_lower_turned_round():
    up, down = said("a@1", 1.0, 2.0, 3.0, 4.0), said("b@1", 10.0, 20.0, 30.0, 5.0, better="lower")
    assert values(composed([Term(up, 2.0), Term(down, 0.1)], "raw")) == pytest.approx([1.0, 2.0, 3.0, 7.5])


def test_a_group_is_standardised_term_by_term():
    # whatever unit a term has, and however far apart its level is
    up, down = said("a@1", 1.0, 1.0, 3.0, 3.0), said("b@1", 1e6, 3e6, 1e6, 3e6, better="lower")
    assert values(composed([Term(up), Term(down, 0.5)])) == pytest.approx([-0.5, -1.5, 1.5, 0.5])
    flat = said("c@1", 7.0, 7.0, 7.0, 7.0)
    assert values(composed([Term(up), Term(flat, 9.0)])) == pytest.approx([-1, -1, 1, 1])


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_enough_makes_a_penalty_of_what_is_to_be_kept(better):
    sign = 1 if better == "higher" else -1
    rest = said("rest@1", *(sign * value for value in (20.0, 24.0, 30.0, 40.0)), better=better)
    found = values(composed([Term(rest, 0.5, enough=sign * 25.0)], "raw"))
    assert found == pytest.approx([10.0, 12.0, 12.5, 12.5])
    above = said("rest@1", 26.0, 30.0, 40.0, 50.0)
    assert values(composed([Term(said("a@1", 1.0, 3.0, 1.0, 3.0)), Term(above, 5.0, enough=25.0)])) == [-1, 1, -1, 1]


def test_a_clip_that_a_term_does_not_see_has_no_value_and_is_no_part_of_the_group():
    one, two = said("a@1", 1.0, None, 3.0, 100.0), said("b@1", 1.0, 1.0, 1.0, None)
    found = composed([Term(one), Term(two)]).look(CASE, CLIPS)
    assert [f.value for f in found] == [-1, None, 1, None]
    assert (found[1].reason, found[3].reason) == ("a@1: a@1 is blind", "b@1: b@1 is blind")
    # the sum has no scale of its own; what its terms saw is known beside it
    whole, terms = composed([Term(one), Term(two)]).seen(CASE, CLIPS)
    assert [f.value for f in whole] == [-1, None, 1, None]
    assert terms == {"a@1": [1.0, None, 3.0, 100.0], "b@1": [1.0, 1.0, 1.0, None]}
    assert one.seen(CASE, CLIPS)[1] == {"a@1": [1.0, None, 3.0, 100.0]}


def test_one_unchanged_term_is_itself_and_others_are_named_by_what_they_are():
    one = said("a@1", 1.0)
    assert composed([Term(one)], "raw") is one
    made = [composed([Term(one, w)], scale) for w, scale in ((2.0, "raw"), (2.0, "group"), (3.0, "raw"))]
    assert len({reward.info.id for reward in made}) == 3
    assert made[0].info.id == composed([Term(one, 2.0)], "raw").info.id
    assert "2 x a@1" in made[0].info.source
    with pytest.raises(ValueError, match="at least one term"):
        composed([])


def test_every_family_of_a_sum_is_marked():
    config = RewardConfig(term=[{"reward": "hand_quality"}, {"reward": "rest.psnr", "weight": 0.5, "enough": 23.0}])
    reward = rewards.of_config(config)
    by = reward.chooser.by
    assert (reward.info.needs, reward.info.better) == ("ground_truth", "higher")
    for metric in ("hand_quality@4", "hand.recall@1", "hand.keypoint_error@1", "rest.psnr@1", "frame.ssim@1"):
        assert not is_evidence(metric, by), metric
        assert metric in no_evidence(by)
    for metric in ("truth.hand_error@1", "hand.lpips.embedded@1", "identity.margin.sface@1"):
        assert is_evidence(metric, by), metric
    alone = rewards.of_config(RewardConfig(term=[{"reward": "rest.psnr"}])).chooser.by
    assert is_evidence("hand.recall@1", alone)


def test_a_network_that_only_a_term_names_is_marked():
    by = composed([Term(said("a@1", 1.0, family=("sface",)), 2.0), Term(said("b@1", 1.0))]).chooser.by
    assert not is_evidence("identity.margin.sface@1", by)


@pytest.mark.parametrize(
    ("term", "why"),
    [
        ({"reward": "truth.hand_error"}, "truth.hand_error@1 only judges"),
        ({"reward": "truth.top1"}, "truth.top1@1 only judges"),
        ({"reward": "hand_qualty"}, "did you mean 'hand_quality'"),
        ({"reward": "votes:people.json"}, "no reward of kind 'votes'"),
        ({"reward": "rest.psnr", "weight": 0.0}, "greater than 0"),
        ({"reward": "rest.psnr", "enough": float("nan")}, "finite"),
        ({"reward": "rest.psnr", "margin": 1.0}, "Extra inputs"),
    ],
)
def test_a_wrong_term_is_said(term, why):
    with pytest.raises(UserError, match=why), checked("", ""):
        RewardConfig(term=[term])


def test_no_term_is_no_reward():
    with pytest.raises(UserError, match="at least 1"), checked("", ""):
        RewardConfig(term=[])


def test_a_sum_with_a_sealed_term_is_refused_also_where_no_table_has_it():
    sealed = replace(said("a@1", 1.0).info, id="truth.toy@1", sealed="it reads what was drawn")
    with pytest.raises(UserError, match=r"truth\.toy@1 only judges"):
        Reward(sealed, said("a@1", 1.0).look)
    with pytest.raises(UserError, match="only judges"):
        composed([Term(Reward(said("a@1", 1.0).info, said("a@1", 1.0).look, ("truth.top1@1",)), 2.0)])


def test_a_reward_that_works_is_asked_once():
    asked = []

    def look(case, clips):
        asked.append((case.id, clips))
        return [Measured(1.0)]

    check_usable(replace(said("a@1", 1.0), look=look), [CASE, CASE])
    assert asked == [("anna", [Path("truth.mp4")])]


def test_a_reward_that_cannot_work_is_said_before_clips_are_paid_for():
    with pytest.raises(UserError, match="a@1 says nothing of the clips of 2 cases: a@1 is blind"):
        check_usable(said("a@1", None), [CASE, CASE])
    no_truth = Case("bert", Path("driving.mp4"))
    with pytest.raises(UserError, match="compares with the ground truth, and case bert has none"):
        check_usable(said("a@1", 1.0, needs="ground_truth"), [CASE, no_truth])
    with pytest.raises(UserError, match="there is no case"):
        check_usable(said("a@1", 1.0), [])

    def broken(value):
        return replace(said("a@1", 1.0), look=lambda *_: [Measured(value)])

    with pytest.raises(UserError, match="a@1 gives no number for case anna: a Measured is finite"):
        check_usable(broken(float("nan")), [CASE])
    # no float of Python's, which making a finding refuses
    unchecked = SimpleNamespace(value=np.float32("nan"), reason=None)
    with pytest.raises(UserError, match="a@1 gives no number for case anna: nan"):
        check_usable(replace(said("a@1", 1.0), look=lambda *_: [unchecked]), [CASE])


def test_a_reward_whose_networks_are_missing_is_refused_with_what_would_mend_it(monkeypatch, tmp_path):
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    clip = tmp_path / "clip.mp4"
    video.encode(noise(5, 48, 64), clip, 10, crf=10)
    with pytest.raises(UserError, match=r"frame\.lpips@1 says nothing of .* weights") as refused:
        check_usable(rewards.find("frame.lpips"), [Case("anna", clip, clip)])
    assert "ipa-bench weights" in str(refused.value)


def test_what_a_term_names_is_found_beside_the_configuration(tmp_path):
    (tmp_path / "mine").mkdir()
    config = RewardConfig(term=[{"reward": "video:mine"}, {"reward": "video:other"}, {"reward": "rest.psnr"}])
    found = [term.reward for term in config.placed(tmp_path).term]
    assert found == [f"video:{tmp_path / 'mine'}", "video:other", "rest.psnr"]
