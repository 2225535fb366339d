"""What a report draws of a video is read back exactly, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipa_bench.store import Details, PeopleDetails, RunStore
from tests.store.runs import HEADER

UNIT = ("wave", 0, "A")


def details(frames: int = 5, *, driving: bool = True) -> Details:
    rng = np.random.default_rng(frames)
    landmarks = rng.random((frames, 2, 21, 2), dtype=np.float32)
    return Details(
        times=np.arange(frames) / 25,
        fps=25.0,
        size=(64, 48),
        generated_landmarks=landmarks,
        generated_found=landmarks[:, :, 0, 0] > 0.5,
        driving_landmarks=landmarks[::-1] if driving else None,
        driving_found=np.ones((frames, 2), np.bool_) if driving else None,
        series={"hand.pck@1": np.array([np.nan, *range(frames - 1)], np.float32)},
    )


@pytest.mark.parametrize("driving", [True, False])
def test_details_are_read_back_exactly(tmp_path: Path, driving: bool) -> None:
    store = RunStore.open(tmp_path, HEADER)
    written = details(driving=driving)
    store.write_details(UNIT, details(7))
    store.write_details(UNIT, written)
    found = RunStore.load(tmp_path).read_details(UNIT)
    assert found is not None
    assert (found.fps, found.size) == (25.0, (64, 48))
    for name in ("times", "generated_landmarks", "generated_found", "driving_landmarks", "driving_found"):
        ours, theirs = getattr(written, name), getattr(found, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs, strict=True)
    np.testing.assert_array_equal(found.series["hand.pck@1"], written.series["hand.pck@1"], strict=True)
    assert store.read_details(("wave", 1, "A")) is None


def test_details_without_series(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.write_details(UNIT, replace(details(), series={}))
    found = store.read_details(UNIT)
    assert found is not None
    assert found.series == {}


def test_damaged_details_are_none(tmp_path: Path) -> None:
    """Every byte of the file in turn is flipped: what comes back is the truth or nothing."""
    store = RunStore.open(tmp_path, HEADER)
    small = replace(details(1), generated_landmarks=np.zeros((1, 2, 21, 2), np.float32), driving_landmarks=None)
    store.write_details(UNIT, small)
    (path,) = (tmp_path / "details").iterdir()
    good = path.read_bytes()
    lost = 0
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        found = store.read_details(UNIT)
        lost += found is None
        if found is not None:
            np.testing.assert_array_equal(found.times, small.times)
            np.testing.assert_array_equal(found.generated_found, small.generated_found)
    assert lost > len(good) / 4
    for size in range(0, len(good), 17):
        path.write_bytes(good[:size])
        assert store.read_details(UNIT) is None


def test_details_of_another_unit_under_this_name_are_none(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.write_details(UNIT, details())
    (path,) = (tmp_path / "details").iterdir()
    store.write_details(("nod", 0, "A"), details())
    (other,) = set((tmp_path / "details").iterdir()) - {path}
    other.replace(path)
    assert store.read_details(UNIT) is None


def test_details_are_never_unpickled(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.write_details(UNIT, details())
    (path,) = (tmp_path / "details").iterdir()
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **(arrays | {"times": np.array([{}], dtype=object)}))
    assert store.read_details(UNIT) is None


def test_who_is_who_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    found = rng.random((5, 2)) > 0.3
    people = PeopleDetails(
        names=("anna", "Bén \u202e"), network="sface", expected=~found, found=found, judged=found,
        whose=np.array([[0, 1], [1, 0], [-1, 1], [0, -1], [0, 1]], np.int8),
        likeness=rng.random((5, 2)).astype(np.float32), same=0.363, box=rng.random((5, 2, 4)).astype(np.float32),
        points=rng.random((5, 2, 5, 2)).astype(np.float32), pictures=("/a/anna.png", ""),
        faces=np.array([[1, 2, 30, 40], [5, 6, 7, 8]], np.float32),
    )  # fmt: skip
    store = RunStore.open(tmp_path, HEADER)
    store.write_details(UNIT, replace(details(), people=people))
    read = RunStore.load(tmp_path).read_details(UNIT)
    assert read is not None
    assert read.people is not None
    for name, value in vars(people).items():
        got = getattr(read.people, name)
        assert np.array_equal(got, value) if isinstance(value, np.ndarray) else got == value
    store.write_details(UNIT, details())
    without = RunStore.load(tmp_path).read_details(UNIT)
    assert without is not None
    assert without.people is None
