"""Distances between sets of a run: the right clips on either side, reasons where there is no value, nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.embedded import world
from ipa_bench.errors import UserError
from ipa_bench.files import file_sha256
from ipa_bench.harness import sets as set_stage
from ipa_bench.metrics.set_table import FID_VID, FVD, FVD_EMBEDDED, HAND_FVMD
from ipa_bench.metrics.sets.frechet import frechet_distance
from ipa_bench.observers.features import networks as set_networks
from ipa_bench.store import CaseEntry, ModelEntry, RunHeader, RunStore, UnitRecord
from ipa_bench.store import sets as set_results
from ipa_bench.store.sets import SetResult
from ipa_bench.types import UInt8

PEOPLE = 9
FPS = 12.0


def blurred(frames: UInt8) -> UInt8:
    """The mean of 5 x 5 pixels around each."""
    padded = np.pad(frames.astype(np.float32), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    shifted = [padded[:, y : y + frames.shape[1], x : x + frames.shape[2]] for y in range(5) for x in range(5)]
    return np.asarray(np.mean(shifted, axis=0).round(), np.uint8)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of people, the same blurred, and one that is too short."""
    folder = tmp_path_factory.mktemp("sets")
    for index in range(PEOPLE):
        frames = world.clip("val", index, 0).frames
        for name, made in (("truth", frames), ("blurred", blurred(frames))):
            (folder / name).mkdir(exist_ok=True)
            video.encode(made, folder / name / f"{index}.mp4", FPS, crf=4)
        video.encode(frames, folder / f"fast_{index}.mp4", 2 * FPS, crf=4)
    video.encode(frames[:8], folder / "short.mp4", FPS, crf=4)
    return folder


def run(folder: Path, material: Path, clip_of: dict[str, Callable[[int], Path]], people: int = PEOPLE) -> RunStore:
    """A run whose models' videos are those files."""
    truth = [str(material / "truth" / f"{i}.mp4") for i in range(people)]
    cases = tuple(CaseEntry(f"c{i}", f"p{i}", "test", path, path, ()) for i, path in enumerate(truth))
    header = RunHeader(
        name="sets", suite_hash="0" * 64, primary="hand_quality@4", seeds=(0,), metrics=("hand_quality@4",),
        cases=cases, models=tuple(ModelEntry(name, "folder", name, ()) for name in clip_of), environment={},
        tool_version="0", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    store = RunStore.open(folder, header)
    for name, path in clip_of.items():
        for i in range(people):
            store.append(UnitRecord(f"c{i}", 0, name, video=str(path(i)), sha256=file_sha256(path(i))))
    store.close()
    return store


def by_model(results: tuple[SetResult, ...]) -> dict[tuple[str, str], SetResult]:
    return {(result.model, result.baseline): result for result in results}


@pytest.fixture(scope="module")
def folders(material: Path) -> dict[str, Callable[[int], Path]]:
    return {
        "copy": lambda i: material / "truth" / f"{i}.mp4",
        "blurred": lambda i: material / "blurred" / f"{i}.mp4",
    }


def test_distances_are_those_of_the_features_and_a_copy_has_none(
    material: Path, folders: dict[str, Callable[[int], Path]], tmp_path: Path
) -> None:
    store = run(tmp_path / "run", material, folders)
    found = by_model(set_stage.measure(store, [FVD_EMBEDDED], cache=Cache(tmp_path / "cache")))
    definition, backbone = set_networks.network(FVD_EMBEDDED.id)

    def features(name: str) -> np.ndarray:
        rows = []
        for i in range(PEOPLE):
            frames = [frame.image for frame in video.read_frames(material / name / f"{i}.mp4")][: definition.length]
            picture = np.stack(frames).astype(np.float32) / 127.5 - 1  # the network's size is the clip's
            rows.append(backbone().features(picture.transpose(3, 0, 1, 2)[None])[0])
        return np.array(rows, np.float64)

    wanted = frechet_distance(features("blurred"), features("truth"))
    assert wanted > 0
    blurred_ = found["blurred", ""].value
    assert blurred_ is not None
    assert blurred_.frechet.value == pytest.approx(wanted, rel=1e-4)
    assert (blurred_.frechet.n, blurred_.frechet.m, blurred_.frechet.identities) == (PEOPLE, PEOPLE, PEOPLE)
    copy = found["copy", ""].value
    assert copy is not None
    assert copy.frechet.value == pytest.approx(0, abs=1e-6 * wanted)
    difference = found["blurred", "copy"].value
    assert difference is not None
    assert difference.frechet.value == pytest.approx(wanted, rel=1e-4)
    assert found["blurred", ""].definition == definition.id


def test_a_second_call_reads_nothing_and_a_changed_video_is_measured_again(
    material: Path, folders: dict[str, Callable[[int], Path]], tmp_path: Path
) -> None:
    store, cache = run(tmp_path / "run", material, folders), Cache(tmp_path / "cache")
    events: list[tuple[str, int, int]] = []
    first = set_stage.measure(store, [FVD_EMBEDDED], cache=cache, progress=lambda *event: events.append(event))
    assert events
    events.clear()
    assert set_stage.measure(store, [FVD_EMBEDDED], cache=cache, progress=lambda *e: events.append(e)) == first
    assert events == []
    changed = {**folders, "blurred": folders["copy"]}
    other = run(tmp_path / "other", material, changed)
    (tmp_path / "run" / set_results.FILE).replace(tmp_path / "other" / set_results.FILE)
    again = by_model(set_stage.measure(other, [FVD_EMBEDDED], cache=cache))["blurred", ""].value
    assert again is not None
    assert again.frechet.value == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_compared_has_a_reason(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path))
    models: dict[str, Callable[[int], Path]] = {
        "short": lambda i: material / "short.mp4",
        "fast": lambda i: material / f"fast_{i}.mp4",
        "some": lambda i: material / ("short.mp4" if i < 3 else f"truth/{i}.mp4"),
    }
    store = run(tmp_path / "run", material, models)
    found = set_stage.measure(store, [FVD_EMBEDDED, FVD, FID_VID], cache=Cache(tmp_path / "cache"))
    embedded = by_model(tuple(result for result in found if result.metric == FVD_EMBEDDED.id))
    assert "fewer than two windows of its videos" in (embedded["short", ""].reason or "")
    assert "12 and of 24 frames a second" in (embedded["fast", ""].reason or "")
    assert embedded["some", ""].value is not None
    assert embedded["some", ""].value.frechet.n == PEOPLE - 3
    assert embedded["some", ""].skipped == 3
    absent = {result.metric: result.reason for result in found if result.metric != FVD_EMBEDDED.id}
    assert absent.keys() == {FVD.id, FID_VID.id}
    assert all("missing" in (reason or "") for reason in absent.values())


def test_clips_without_hands_have_no_hand_motion(
    material: Path, folders: dict[str, Callable[[int], Path]], tmp_path: Path, cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))
    still = tmp_path / "still.mp4"
    video.encode(np.full((17, 128, 128, 3), 90, np.uint8), still, FPS, crf=4)
    store = run(tmp_path / "run", material, {"copy": folders["copy"], "empty": lambda i: still}, people=2)
    found = by_model(set_stage.measure(store, [HAND_FVMD]))
    copy, empty = found["copy", ""].value, found["empty", ""].value
    assert copy is not None
    assert copy.frechet.value == pytest.approx(0, abs=1e-9)
    assert empty is not None  # hands that are due and not there are mass in "missing": far away, not left out
    assert empty.frechet.value > 2


def test_weights_of_another_hash_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "i3d_torchscript.pt").write_bytes(b"not the network")
    with pytest.raises(UserError):
        set_networks.network(FVD.id)
