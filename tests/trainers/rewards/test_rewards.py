"""A reward gives numbers for clips of a case, says what it looks through, and is never one that only judges."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.metrics import METRICS, PART_IDS, Measured, Metric, find, table
from ipa_bench.metrics.base import unknown
from ipa_bench.metrics.table import is_evidence
from ipa_bench.scorer import Scorer
from ipa_bench.select import read_candidates, read_pairs, read_selection
from ipa_bench.store import CaseEntry, ModelEntry, RunHeader, RunStore, UnitRecord
from ipa_bench.suite import load_suite
from ipa_bench.types import Case, MetricInfo, Score
from tests.clips import noise
from tests.trainers import tiny_runs
from trainers import rewards
from trainers.align import config as align_config
from trainers.align import stages
from trainers.data import clips
from trainers.methods.advantage import standardised
from trainers.rewards import Reward, rewarded

TOY = MetricInfo("reward.seed@1", "seeds", "higher", "the test", "everything but the name", family=("sface",))


def seed_of(clip):
    return int(clip.stem.rpartition("seed")[2])


def by_seed(case, clips_):
    """The higher the seed, the better; of bert's clips nothing is known."""
    return [unknown(f"{case.id} is not seen") if case.id == "bert" else Measured(float(seed_of(c))) for c in clips_]


@pytest.fixture
def toy(monkeypatch):
    """A line more in the table."""
    line = rewards.Kind("toy", "The seed.", lambda what: Reward(replace(TOY, unit=what), by_seed, ("rest.psnr@1",)))
    monkeypatch.setattr(rewards, "REWARDS", (*rewards.REWARDS, line))
    return rewards.find("toy:seeds")


def test_a_metric_is_a_reward_as_the_scorer_has_it(tmp_path):
    files = [tmp_path / f"{name}.mp4" for name in ("driving", "near", "far", "torn")]
    frames = noise(5, 48, 64)
    for file, crf in zip(files, (10, 20, 45), strict=False):
        video.encode(frames, file, 10, crf=crf)
    files[3].write_bytes(b"no video")
    case = Case("a", files[0], files[0])
    reward = rewards.find("frame.psnr")
    near, far, torn = reward.look(case, files[1:])
    expected = Scorer(metrics=("frame.psnr",))
    assert [near.value, far.value] == [expected.score(f, case)["frame.psnr"].value for f in files[1:3]]
    assert near.value > far.value
    assert torn.value is None
    assert "torn.mp4" in torn.reason
    assert reward.info == find("frame.psnr@1").info
    assert reward.chooser.by == ("frame.psnr@1",)


def test_rewards_are_found_by_name():
    assert rewards.find("hand_quality").chooser.by == ("hand_quality@4", *PART_IDS)
    assert rewards.find("metric:hand_quality@4").info == find("hand_quality").info
    with pytest.raises(UserError, match=r"no metric called 'hand_qualty' \(did you mean 'hand_quality'\?\)"):
        rewards.find("hand_qualty")
    with pytest.raises(UserError, match=r"no reward of kind 'votes' \(kinds: metric"):
        rewards.find("votes:people.json")
    assert all(line.help for line in rewards.REWARDS)


def test_what_only_judges_is_no_reward_and_no_part_of_one(monkeypatch):
    info = replace(find("rest.psnr").info, id="truth.toy@1", sealed="it reads what the renderer drew")
    said = r"truth\.toy@1 only judges: it reads what the renderer drew"
    with pytest.raises(UserError, match=said):  # also where no table has it
        Reward(info, by_seed)
    monkeypatch.setattr(table, "METRICS", (*METRICS, Metric(info, lambda evidence: unknown("toy"))))
    for attempt in (lambda: rewards.find("truth.toy"), lambda: Reward(TOY, by_seed, ("rest.psnr@1", "truth.toy@1"))):
        with pytest.raises(UserError, match=said):
            attempt()


def test_what_a_reward_looks_through_is_marked(toy):
    """SFace is a family of the metrics' table, and nobody else's sees pixels."""
    by = toy.chooser.by
    assert by == ("reward.seed@1", "rest.psnr@1", "sface")
    for metric in ("identity.margin.sface@1", "rest.psnr@1", "hand.ssim@1", "reward.seed@1"):
        assert not is_evidence(metric, by), metric
    for metric in ("hand_quality@4", "hand.lpips@1", "fvd@1"):
        assert is_evidence(metric, by), metric
    # a network that a metric of it has already said is not said again
    seen = replace(TOY, family=("pixels",))
    assert Reward(seen, by_seed, ("rest.psnr@1",)).chooser.by == ("reward.seed@1", "rest.psnr@1")


def record(name, seed, value=None, file="{}_seed{}.mp4"):
    scores = () if value is None else (Score(name, seed, "A", TOY.id, value),)
    return UnitRecord(name, seed, "A", file and file.format(name, seed), "sha", scores=scores)


def test_only_what_has_no_score_is_looked_at():
    seen = []

    def look(case, clips_):
        seen.append((case.id, [clip.name for clip in clips_]))
        return by_seed(case, clips_)

    known = [record("anna", 0, 5.0), record("anna", 1), record("anna", 2), record("bert", 0), record("cleo", 0)]
    known.append(record("anna", 3, file=None))
    cases = {name: Case(name, Path("d.mp4")) for name in ("anna", "bert")}
    found = rewarded(known, cases, Reward(TOY, look))
    assert seen == [("anna", ["anna_seed1.mp4", "anna_seed2.mp4"]), ("bert", ["bert_seed0.mp4"])]
    assert [each.unit for each in found] == [each.unit for each in known]
    assert [[score.value for score in each.scores] for each in found] == [[5.0], [1.0], [2.0], [None], [], []]
    assert found[3].scores[0].reason == "bert is not seen"


@pytest.fixture
def folder(tmp_path):
    """A run of two clips of each of three people, that knows nothing of the toy reward."""
    tiny_runs.write(tmp_path)
    suite = load_suite(tmp_path / "suite.toml")
    entries = tuple(CaseEntry(case.id, case.identity, case.split, str(case.driving)) for case in suite.cases)
    header = RunHeader(
        "r", "0", "hand_quality@4", (0, 1), ("hand_quality@4",), entries, (ModelEntry("A", "folder", ""),)
    )
    store = RunStore.open(tmp_path / "run", header)
    for name in tiny_runs.PEOPLE:
        for seed in range(2):
            store.append(replace(record(name, seed), video=str(tiny_runs.clip_of(tmp_path, name, seed)), sha256=None))
    return tmp_path


def chosen(folder, method, **settings):
    given = {"choose": {"metric": "toy:seeds", "margin": 0.5, "pairs": "all"}, **settings}
    config = align_config.AlignConfig(**given)
    work = SimpleNamespace(config=config, suite=load_suite(folder / "suite.toml"))
    return stages.choose(work, method, RunStore.load(folder / "run"), folder)


def test_methods_are_given_what_any_reward_says(toy, folder):
    good = read_selection(chosen(folder, "ipa"))
    assert [(row.case, row.seed) for row in good.rows] == [("anna", 1), ("cleo", 1)]
    assert (good.by, good.unscored) == (toy.chooser.by, 2)
    (pair,) = [p for p in read_pairs(chosen(folder, "dpo")).preferences if p.case == "anna"]
    assert (Path(pair.good).name, Path(str(pair.bad)).name) == ("anna_seed1.mp4", "anna_seed0.mp4")
    every = read_candidates(chosen(folder, "nft"))
    assert [(row.case, row.seed, row.score) for row in every.rows] == [
        (name, seed, seed) for name in ("anna", "cleo") for seed in range(2)
    ]  # fmt: skip
    assert every.by == toy.chooser.by
    # and from there on nothing is new: the scores are standardised within a case
    config = tiny_runs.config(folder, "wsft")
    data = clips.clips(config.data, load_suite(folder / "suite.toml"), "wsft")
    assert data.by == toy.chooser.by
    assert standardised([clip.case.id for clip in data.good], data.scores) == [-1, 1, -1, 1]


def test_an_alignment_chooses_by_a_sum_of_rewards(toy, folder):
    terms = [{"reward": "toy:seeds", "weight": 2.0}, {"reward": "toy:seeds", "enough": 0.5}]
    settings = {"choose": {"metric": "hand_quality"}, "reward": {"scale": "raw", "term": terms}}
    every = read_candidates(chosen(folder, "nft", **settings))
    # 2 s + min(s, 1/2)
    assert [(row.case, row.score) for row in every.rows] == [("anna", 0), ("anna", 2.5), ("cleo", 0), ("cleo", 2.5)]
    assert every.by[1:] == toy.chooser.by
    assert stages.chosen_by(align_config.AlignConfig(**settings)) == every.by
