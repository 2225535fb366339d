from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.report import media
from ipa_bench.report.media import Copy, Part, StillJob, make_copies, make_stills
from ipa_bench.types import UInt8


def frames(count: int, width: int = 96, height: int = 64) -> list[UInt8]:
    """Grey frames, each brighter than the one before."""
    return [np.full((height, width, 3), 20 + 4 * index, np.uint8) for index in range(count)]


def clip(path: Path, count: int = 12, fps: float = 24, width: int = 96, height: int = 64) -> Path:
    video.encode(frames(count, width, height), path, fps, preset="ultrafast")
    return path


def one(source: Path, folder: Path) -> Copy:
    copy = make_copies([source], folder, jobs=1)[source]
    assert isinstance(copy, Copy), copy
    return copy


def test_a_copy_is_what_browsers_play(tmp_path: Path) -> None:
    copy = one(clip(tmp_path / "big.mp4", 6, 30, 1300, 722), tmp_path / "media")
    info = video.probe(tmp_path / "media" / copy.name)
    assert (info.codec, info.pixel_format, info.variable_rate) == ("h264", "yuv420p", False)
    assert (copy.width, copy.height) == (info.width, info.height) == (640, 356)
    assert copy.fps == 30
    assert len(list(video.read_frames(tmp_path / "media" / copy.name))) == 6


def test_a_small_video_keeps_its_size_and_a_tall_one_its_shape(tmp_path: Path) -> None:
    assert (one(clip(tmp_path / "a.mp4"), tmp_path / "m").width, 64) == (96, 64)
    tall = one(clip(tmp_path / "b.mp4", 3, 24, 360, 1280), tmp_path / "m")
    assert (tall.width, tall.height) == (180, 640)


def test_a_still_becomes_a_video_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(frames(1)[0]).save(tmp_path / "still.png")
    copy = one(tmp_path / "still.png", tmp_path / "media")
    assert len(list(video.read_frames(tmp_path / "media" / copy.name))) == 1


def test_a_copy_is_used_again_and_a_changed_video_gets_a_new_one(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4")
    first = one(source, tmp_path / "media")
    before = (tmp_path / "media" / first.name).stat().st_mtime_ns
    assert one(source, tmp_path / "media") == first
    assert (tmp_path / "media" / first.name).stat().st_mtime_ns == before
    clip(source, count=13)
    assert one(source, tmp_path / "media").name != first.name


def test_names_say_nothing_of_the_source(tmp_path: Path) -> None:
    copy = one(clip(tmp_path / "<img src=x onerror=alert(1)>.mp4"), tmp_path / "media")
    assert set(copy.name.removesuffix(".mp4")) <= set("0123456789abcdef")


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_bad_video_is_a_reason_and_the_others_are_copied(tmp_path: Path, jobs: int) -> None:
    good, bad, absent = clip(tmp_path / "good.mp4"), tmp_path / "bad.mp4", tmp_path / "absent.mp4"
    bad.write_bytes(b"not a video" * 100)
    heard: list[tuple[int, int]] = []
    copies = make_copies([good, bad, absent, good], tmp_path / "m", jobs=jobs, progress=lambda *at: heard.append(at))
    assert isinstance(copies[good], Copy)
    assert "bad.mp4" in str(copies[bad])
    assert copies[absent] == "absent.mp4: no such file"
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in (tmp_path / "m").iterdir()] == [copies[good].name]  # type: ignore[union-attr]


def test_a_bug_in_one_copy_is_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_encode", lambda *_: 1 / 0)
    source = clip(tmp_path / "a.mp4")
    assert make_copies([source], tmp_path / "m", jobs=1)[source] == "ZeroDivisionError: division by zero"


def test_a_still_shows_that_moment_of_both_videos(tmp_path: Path) -> None:
    videos = (clip(tmp_path / "a.mp4", 12, 24), clip(tmp_path / "b.mp4", 6, 12))
    job = StillJob(tmp_path / "out" / "still.jpg", tuple(Part(v, 7 / 24, (0.4, 0.4, 0.6, 0.6)) for v in videos))
    assert make_stills([job], jobs=1) == [None]
    sheet = np.asarray(Image.open(job.out).convert("L")).astype(int)
    assert sheet.shape == (media.STILL_SIDE, 2 * media.STILL_SIDE + 2)
    # frame 7 of the first, frame 3 of the second, which is half as fast
    assert abs(sheet[:, :200].mean() - (20 + 4 * 7)) < 4
    assert abs(sheet[:, -200:].mean() - (20 + 4 * 3)) < 4


def test_a_still_near_the_edge_stays_inside_the_frame(tmp_path: Path) -> None:
    white = [np.full((64, 96, 3), 250, np.uint8)] * 2
    video.encode(white, tmp_path / "a.mp4", 24)
    job = StillJob(tmp_path / "still.jpg", (Part(tmp_path / "a.mp4", 0.0, (0.9, 0.8, 1.0, 1.0)),))
    assert make_stills([job], jobs=1) == [None]
    assert np.asarray(Image.open(job.out)).min() > 200


def test_a_still_that_cannot_be_made_is_a_reason(tmp_path: Path) -> None:
    job = StillJob(tmp_path / "still.jpg", (Part(tmp_path / "none.mp4", 0.0, None),))
    assert make_stills([job], jobs=1) == ["none.mp4: no such file"]
    assert not list(tmp_path.iterdir())
