"""Writing videos: what comes back, and what is left behind when writing fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.types import UInt8
from tests import clips


def test_round_trip_keeps_a_smooth_clip(tmp_path: Path) -> None:
    video.encode(clips.smooth(12), tmp_path / "a.mp4", 25)
    clip = video.load(tmp_path / "a.mp4")
    assert clip.frames.shape == (12, 96, 128, 3)
    assert clip.fps == 25.0
    assert clips.psnr(clip.frames, clips.smooth(12)) > 40


def test_lower_crf_is_closer(tmp_path: Path) -> None:
    errors = []
    for crf in (1, 30, 45):
        frames = [frame.image for frame in video.read_bytes(video.encode_bytes(clips.smooth(6), 25, crf=crf))]
        errors.append(clips.psnr(np.stack(frames), clips.smooth(6)))
    assert errors[0] > errors[1] + 2
    assert errors[1] > errors[2] + 2


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25, 2), Fraction(1, 3), 60])
def test_frame_rate_is_exact(tmp_path: Path, rate: Fraction) -> None:
    video.encode(clips.smooth(5), tmp_path / "a.mp4", float(rate))
    assert video.probe(tmp_path / "a.mp4").fps == float(rate)
    times = [frame.time for frame in video.read_frames(tmp_path / "a.mp4")]
    assert times == [float(i / Fraction(rate)) for i in range(5)]


@pytest.mark.parametrize(("height", "width"), [(31, 44), (30, 45), (31, 45), (1, 1)])
def test_odd_sizes_grow_by_a_copy_of_the_edge(tmp_path: Path, height: int, width: int) -> None:
    video.encode(clips.smooth(3, height, width), tmp_path / "a.mp4", 25, crf=1)
    clip = video.load(tmp_path / "a.mp4")
    assert clip.frames.shape == (3, height + height % 2, width + width % 2, 3)
    assert clips.psnr(clip.frames[:, :height, :width], clips.smooth(3, height, width)) > 35
    if width % 2 and width > 1:  # chroma is shared by the last two columns, so they end up close, not equal
        assert np.abs(clip.frames[:, :, -1].astype(int) - clip.frames[:, :, -2]).mean() < 3


def test_file_is_h264_yuv420p_tagged_bt709_with_its_index_first(tmp_path: Path) -> None:
    video.encode(clips.smooth(3), tmp_path / "a.mp4", 25)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries) == (1, 1, 1, 1)


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b c é.mp4"):
        video.encode(iter(clips.noise(8)), tmp_path / name, 25, crf=30, preset="veryfast")
    one, two = ((tmp_path / name).read_bytes() for name in ("a.mp4", "b c é.mp4"))
    assert one == two == video.encode_bytes(clips.noise(8), 25, crf=30, preset="veryfast")


def test_bytes_do_not_depend_on_what_the_heap_held(media: Path) -> None:
    # Real footage with B-frames is what it takes: with macroblock trees one file in four differed.
    images = [f.image for i, f in enumerate(video.read_frames(media / "hand.mp4")) if i >= 26]
    images = [video.resize(image, (320, 180)) for image in images]
    rng = np.random.default_rng(0)
    files, litter = set(), []
    for _ in range(8):
        litter = [*litter[-3:], rng.integers(0, 255, rng.integers(1_000, 3_000_000), dtype=np.uint8)]
        files.add(video.encode_bytes(images, 25, preset="veryfast"))
    assert len(files) == 1


def test_strided_frames_encode_as_themselves(tmp_path: Path) -> None:
    mirrored = clips.smooth(3)[:, :, ::-1]
    assert video.encode_bytes(mirrored, 25) == video.encode_bytes(np.ascontiguousarray(mirrored), 25)


def test_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    video.encode(clips.smooth(1), tmp_path / "a.mp4", 25)
    assert os.stat(tmp_path / "a.mp4").st_mode == os.stat(tmp_path / "plain").st_mode


def failing_frames() -> Iterator[UInt8]:
    yield from clips.noise(5)
    raise RuntimeError("the model fell over")


def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    video.encode(clips.smooth(2), target, 25)
    before = target.read_bytes()
    with pytest.raises(RuntimeError, match="fell over"):
        video.encode(failing_frames(), target, 25)
    with pytest.raises(ValueError, match="frame 2 has shape"):
        video.encode([*clips.noise(2), clips.noise(1, 64, 64)[0]], target, 25)
    with pytest.raises(ValueError, match="no frames"):
        video.encode([], target, 25)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    frames = clips.noise(1)
    for fps in (0, -1, float("nan"), float("inf"), 1e-9, 5000):
        with pytest.raises(ValueError, match="fps"):
            video.encode(frames, tmp_path / "a.mp4", fps)
    with pytest.raises(ValueError, match="crf"):
        video.encode(frames, tmp_path / "a.mp4", 25, crf=52)
    with pytest.raises(ValueError, match="preset must be one of ultrafast"):
        video.encode(frames, tmp_path / "a.mp4", 25, preset="quick")
    with pytest.raises(ValueError, match="threads"):
        video.encode(frames, tmp_path / "a.mp4", 25, threads=0)
    with pytest.raises(ValueError, match="expected uint8"):
        video.encode(frames.astype(np.float32), tmp_path / "a.mp4", 25)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_unwritable_places_are_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    for target in (tmp_path / "absent" / "a.mp4", tmp_path / "file" / "a.mp4", tmp_path / "folder.mp4"):
        with pytest.raises(UserError, match="cannot write") as caught:
            video.encode(clips.noise(1), target, 25)
        assert "writable folder" in caught.value.fix
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process's file size with the resource module")
def test_full_disk_is_reported_and_cleaned_up(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from ipa_bench import video
from ipa_bench.errors import UserError
from tests import clips
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # writes beyond this fail, as on a full disk
try:
    video.encode(clips.noise(60), Path({str(tmp_path)!r}) / "a.mp4", 25)
except UserError as error:
    print(error.problem)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot write" in run.stdout
    assert run.stderr == ""
    assert not list(tmp_path.iterdir())
