"""The reader of the truth on drawn clips: faults of known kind and amount are read as what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.embedded.group.faults import faulty, find
from ipa_bench.embedded.group.reader import STRANGERS, Reader
from ipa_bench.embedded.group.setting import Key, Setting, setting
from ipa_bench.embedded.group.shot import shot
from ipa_bench.harness.header import metrics_of
from ipa_bench.metrics import truth
from ipa_bench.metrics.truth import TRUTH, reading
from ipa_bench.observers.looker import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.suite import Suite
from ipa_bench.types import Case, UInt8

KEY = Key(2, "test", 0)  # beside each other
STEP = 4


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(KEY)


def thinned(described: Setting) -> Setting:
    """Every fourth frame of a description: all that is read, and so all that is drawn."""
    arrays = ("chest", "head", "tilt", "shoulder", "elbow", "wrist", "hands", "palms")
    rigs = [replace(rig, **{name: getattr(rig, name)[::STEP] for name in arrays}) for rig in described.rigs]
    looks, scenes = described.looks[::STEP], described.scenes[::STEP]
    return replace(described, looks=looks, scenes=scenes, rigs=tuple(rigs), fps=described.fps / STEP)


def found(reader: Reader, frames: UInt8) -> truth.Reading:
    rows = [reader.read(frame, STEP * index) for index, frame in enumerate(frames)]
    error, pixels = (np.stack(each).astype(float) for each in zip(*rows, strict=True))
    return reading(error, pixels, np.arange(len(rows)) * STEP / 12)


@pytest.mark.parametrize(
    ("name", "metric", "low", "high"),
    [
        ("swap", truth.swap, 0.3, 0.7),
        ("swap_back", truth.swap, 0.3, 0.7),
        ("swap_heads", truth.leak, 0.3, 0.7),
        ("blend", truth.blend, 0.5, 0.5),
        ("leak", truth.leak, 0.3, 0.5),
        ("duplicate", truth.duplicate, 0.3, 0.7),
        ("stranger", truth.top1, 0.5, 0.9),
        ("drift", truth.drift, 0.1, 0.3),
        ("light", truth.top1, 1, 1),
        ("wall", truth.top1, 1, 1),
        ("blur", truth.top1, 1, 1),
        ("flicker", truth.swap, 0, 0),
        ("h264", truth.leak, 0, 0),
    ],
)
def test_a_fault_is_read_as_what_it_is(reader: Reader, name: str, metric: object, low: float, high: float) -> None:
    frames = shot(thinned(faulty(setting(KEY), find(name), "medium", 3))).frames
    value = metric(found(reader, frames)).value  # type: ignore[operator]
    assert low <= value <= high


def test_the_truth_itself_is_zero_away_and_another_size_is_fitted(reader: Reader) -> None:
    frame = shot(setting(KEY, 17)).frames[8]
    error, pixels = reader.read(frame, 8)
    assert error.shape == (2, 2, 2 + STRANGERS + 4)
    assert (pixels > 300).all()
    assert max(error[0, :, 0].max(), error[1, :, 1].max()) < 1.5  # rounding of both
    large = np.asarray(Image.fromarray(frame).resize((416, 256)))
    again, _ = reader.read(large, 8)
    assert again[0, :, 0].max() < 40 < again[0, :, 1].min()


def test_who_is_hidden_is_not_read() -> None:
    key = next(k for i in range(30) if setting(k := Key(2, "test", i)).arrangement == "cross")
    described = setting(key)
    middle = int(np.argmin(np.abs(described.rigs[0].chest[:, 0] - described.rigs[1].chest[:, 0])))
    behind, front = described.order
    error, pixels = Reader(key).read(shot(described).frames[middle], middle)
    assert pixels[behind].sum() < 0.5 * pixels[front].sum()
    assert np.isfinite(error[front]).all()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("truth")
    video.encode(shot(setting(KEY)).frames, folder / "driving.mp4", 12, crf=12)
    video.encode(shot(faulty(setting(KEY), find("swap"), "medium", 0)).frames, folder / "swap.mp4", 12, crf=18)
    people = (("a", folder / "a.png"), ("b", folder / "b.png"))
    return Case("one", folder / "driving.mp4", folder / "driving.mp4", references=people, world=str(KEY))


def test_a_file_is_read_through_the_scorer_and_remembered(case: Case, tmp_path: Path) -> None:
    names = [metric.info.id for metric in TRUTH]
    swapped = case.driving.with_name("swap.mp4")
    scorer = Scorer(Looker(Cache(tmp_path)), names)
    first = scorer.score(swapped, case)
    assert first["truth.swap"].value == pytest.approx(0.5, abs=0.06)
    assert scorer.score(case.driving, case)["truth.top1"].value == 1
    again = Scorer(Looker(Cache(tmp_path)), names).score(swapped, case)
    assert {k: v.value for k, v in again.measured.items()} == {k: v.value for k, v in first.measured.items()}
    # another scene is another observation
    other = Scorer(Looker(Cache(tmp_path)), names).score(swapped, replace(case, world="group2/test/1/0"))
    assert other["truth.top1"].value != first["truth.top1"].value


def test_a_case_without_a_scene_or_of_another_length_has_a_reason(case: Case, tmp_path: Path) -> None:
    scorer = Scorer(Looker(Cache(tmp_path)), ["truth.top1", "hand.recall"])
    plain = scorer.score(case.driving, replace(case, world=None))["truth.top1"]
    assert plain.reason == "the case is no scene of several people of the built-in world"
    short = tmp_path / "short.mp4"
    video.encode(shot(setting(KEY)).frames[:9], short, 12, crf=12)
    cut = scorer.score(short, replace(case, driving=short, ground_truth=short))["truth.top1"]
    assert cut.reason == "the ground truth has 9 frames, its scene 17"


def test_cases_that_are_scenes_are_read_where_no_metric_is_named(case: Case) -> None:
    names = {metric.info.id for metric in metrics_of(Suite("s", (case,), ()))}
    assert {metric.info.id for metric in TRUTH} <= names
    assert not {metric.info.id for metric in TRUTH} & {
        metric.info.id for metric in metrics_of(Suite("s", (replace(case, world=None),), ()))
    }
