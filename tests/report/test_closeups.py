"""Close-ups: where the camera looks, that pixels stay what they are, and that all videos of a case share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.report import closeups
from ipa_bench.report.closeups import Camera, Closeup, camera_of, case_cameras, make_closeups, square
from ipa_bench.report.view import ReportView
from ipa_bench.types import Float32


def hands(frames: int, x: float) -> Float32:
    """Two hands of 0.2 of the height each, the left one at ``x``, the right one at 1 - x; frames of 2:1."""
    landmarks = np.zeros((frames, 2, 21, 2), np.float32)
    landmarks[:, 0, :, 0] = x + np.linspace(-0.05, 0.05, 21)
    landmarks[:, 1, :, 0] = 1 - x + np.linspace(-0.05, 0.05, 21)
    landmarks[..., 1] = 0.5 + np.linspace(-0.1, 0.1, 21)
    return landmarks


def camera(written: tuple[ReportView, Path], x: float = 0.3, gone: tuple[int, ...] = ()) -> Camera:
    details = written[0].details(("wave_0", 0, "tuned"))
    assert details is not None
    there = np.ones((len(details.times), 2), bool)
    there[:, list(gone)] = False
    found = camera_of(replace(details, size=(400, 200)), hands(len(details.times), x), there)
    assert found is not None
    return found


def test_squares_follow_the_hands_and_stand_as_on_screen(written: tuple[ReportView, Path]) -> None:
    for x, slots in ((0.3, (0, 1)), (0.8, (1, 0))):
        found = camera(written, x)
        assert found.slots == slots
        assert found.side == pytest.approx(closeups.ROOM * 0.2, abs=1e-3)
        centres = {slot: path[0] for slot, path in zip(found.slots, found.centres, strict=True)}
        assert centres[0] == pytest.approx((x, 0.5), abs=1e-3)
        assert centres[1] == pytest.approx((1 - x, 0.5), abs=1e-3)
    assert camera(written, gone=(0,)).slots == (1,)


def test_a_hand_that_is_lost_is_looked_for_on_the_way_to_where_it_is_next(written: tuple[ReportView, Path]) -> None:
    details = written[0].details(("wave_0", 0, "tuned"))
    assert details is not None
    count = len(details.times)
    landmarks = hands(count, 0.3)
    landmarks[count // 2 :, 0, :, 0] += 0.4
    there = np.ones((count, 2), bool)
    there[count // 4 : 3 * count // 4, 0] = False
    found = camera_of(details, landmarks, there)
    assert found is not None
    path = np.array(found.centres[found.slots.index(0)])[:, 0]
    assert path[0] == pytest.approx(0.3, abs=1e-3)
    assert path[-1] == pytest.approx(0.7, abs=1e-3)
    assert 0.4 < path[count // 2] < 0.6
    assert (np.diff(path) >= -1e-9).all()
    assert camera_of(details, landmarks, np.zeros_like(there)) is None


def test_pixels_are_the_videos_own() -> None:
    image = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    assert np.array_equal(square(image, (0.5, 0.5), 0.5, 200), image[100:300, 200:400])
    assert np.array_equal(square(image, (0.0, 1.0), 0.5, 200), image[200:, :200])  # inside the frame where it fits
    assert square(image, (0.5, 0.5), 1.0, 256).shape == (256, 256, 3)


def test_every_video_of_a_case_has_one_by_the_same_camera(written: tuple[ReportView, Path], tmp_path: Path) -> None:
    view, page = written
    cameras = case_cameras(view)
    assert {unit for unit, record in view.records.items() if record.video} == cameras.keys()
    for case in view.header.cases:
        assert len({found for unit, found in cameras.items() if unit[0] == case.id}) == 1
    media = page.parent / "report" / "media"
    made = make_closeups(view, page.parent, media, jobs=1)
    assert all(isinstance(found, Closeup) for found in made.values())
    for (source, used), found in made.items():
        assert isinstance(found, Closeup)
        info = video.probe(media / found.name)
        assert (info.width, info.height) == (found.side * len(used.slots), found.side)
        assert info.fps == video.probe(source).fps
        count = sum(1 for _ in video.read_frames(media / found.name))
        assert count == sum(1 for _ in video.read_frames(source))
    before = {path.name: path.stat().st_mtime_ns for path in media.iterdir()}
    make_closeups(view, page.parent, media, jobs=1)
    assert {path.name: path.stat().st_mtime_ns for path in media.iterdir()} == before


def test_a_video_that_does_not_decode_has_a_reason(written: tuple[ReportView, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    made = closeups.each(closeups._make, [(bad, camera(written), tmp_path)], 1, None)
    assert made == ["bad.mp4: not a video, or cut off before its index"]


def test_closeups_play_with_the_rest_and_show_one_hand_when_asked(opened: object) -> None:
    page = opened.page  # type: ignore[attr-defined]
    shown = page.locator(".closeup:visible")
    assert shown.count() == 3
    wide = shown.first.evaluate("(box) => box.clientWidth / box.clientHeight")
    assert wide == pytest.approx(2, abs=0.02)
    page.select_option("#zoom", "0")
    assert shown.first.evaluate("(box) => box.clientWidth / box.clientHeight") == pytest.approx(1, abs=0.02)
    # the left hand is on the right of the screen
    assert shown.first.locator("video").evaluate("(v) => getComputedStyle(v).objectPosition") == "100% 50%"
    page.uncheck("#show-closeups")
    assert page.locator(".closeup:visible").count() == 0
    assert page.locator(".closeup video[src]").count() == 0
