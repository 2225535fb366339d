"""Reading videos: what a file holds."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import Unscorable
from tests import clips
from tests.clips import reason


@pytest.mark.parametrize(
    ("name", "size", "count"), [("hand_640x360.mp4", (640, 360), 202), ("gesture_1280x720.mp4", (1280, 720), 195)]
)
def test_real_footage_reads_whole(whole_media: Path, name: str, size: tuple[int, int], count: int) -> None:
    info = video.probe(whole_media / name)
    assert (info.width, info.height) == size
    assert (info.fps, info.codec, info.pixel_format, info.declared_frames) == (25.0, "h264", "yuv420p", count)
    assert (info.rotation, info.variable_rate) == (0, False)
    times = []
    for frame in video.read_frames(whole_media / name, size=(64, 36), policy="area"):
        assert frame.image.shape == (36, 64, 3)
        assert frame.image.flags.c_contiguous
        times.append(frame.time)
    assert times == [float(Fraction(i, 25)) for i in range(count)]


# ---- colours and pixel formats


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("colours", [(1, 1), (1, 2), (5, 1), (5, 2), (2, 0)])
def test_matrix_and_range_tags_are_followed(tmp_path: Path, colours: tuple[int, int], pix_fmt: str) -> None:
    frames = [clips.quadrants()] * 2
    path = clips.write(tmp_path / "a.mp4", frames, pix_fmt=pix_fmt, colours=colours, options={"crf": "1"})
    for frame in video.read_frames(path):
        assert np.abs(frame.image.astype(int) - clips.quadrants()).mean() < 4  # a wrong matrix or range makes 7


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("ten.mkv", "ffv1", "yuv420p10le"),
        ("ten.mp4", "libx265", "yuv420p10le"),
        ("ten.mp4", "libx264", "yuv422p10le"),
        ("ten.mov", "prores_ks", "yuv422p10le"),
        ("eight.webm", "libvpx-vp9", "yuv420p"),
        ("deep.mkv", "ffv1", "gbrp16le"),
        ("rgb.mkv", "ffv1", "bgr0"),
        ("full.mkv", "ffv1", "yuv444p"),
    ],
)
def test_deep_and_wide_pixel_formats_become_8_bit_rgb(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = clips.write(tmp_path / name, [clips.quadrants()] * 3, codec=codec, pix_fmt=pix_fmt)
    decoder = {"libx265": "hevc", "libx264": "h264", "libvpx-vp9": "vp9", "prores_ks": "prores"}.get(codec, codec)
    info = video.probe(path)
    assert (info.codec, info.pixel_format) == (decoder, pix_fmt)
    frames = list(video.read_frames(path))
    assert len(frames) == 3
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - clips.quadrants()).mean() < 4


def test_odd_size_is_exact_and_contiguous(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "odd.mkv", clips.smooth(2, 31, 45), codec="ffv1", pix_fmt="bgr0")
    for frame, expected in zip(video.read_frames(path), clips.smooth(2, 31, 45), strict=True):
        assert frame.image.flags.c_contiguous
        np.testing.assert_array_equal(frame.image, expected)


def test_gif_reads(tmp_path: Path) -> None:
    shades = [Image.new("RGB", (40, 30), (shade, 10, 250 - shade)) for shade in (0, 80, 160)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[100, 200, 100])
    frames = list(video.read_frames(tmp_path / "a.gif"))
    assert [frame.time for frame in frames] == [0.0, 0.1, 0.3]
    assert [frame.image[15, 20].tolist() for frame in frames] == [[0, 10, 250], [80, 10, 170], [160, 10, 90]]


def test_threads_do_not_change_pixels(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(30))
    one, two = (video.pixel_sha256(f.image for f in video.read_frames(path, threads=n)) for n in (1, 2))
    assert one == two


# ---- time and orientation


def test_variable_rate_keeps_exact_times(tmp_path: Path) -> None:
    stamps = [0, 1, 2, 5, 6, 11, 12]
    path = clips.write(tmp_path / "vfr.mp4", clips.noise(7), rate=Fraction(30000, 1001), stamps=stamps)
    assert video.probe(path).variable_rate is True
    assert [f.time for f in video.read_frames(path)] == [float(Fraction(1001 * s, 30000)) for s in stamps]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_times_start_at_zero_whatever_the_file_says(tmp_path: Path, suffix: str) -> None:
    path = clips.write(tmp_path / f"late.{suffix}", clips.noise(10), stamps=range(50, 60))
    assert [f.time for f in video.read_frames(path)] == [i / 25 for i in range(10)]
    assert video.probe(path).duration == 0.4


def test_stream_without_timestamps_counts_frames(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "raw.h264", clips.noise(6), format="h264", options={"bf": "0"})
    assert [f.time for f in video.read_frames(path)] == [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]
    assert video.probe(path).declared_frames is None
    np.testing.assert_array_equal(video.load(path).frames, [f.image for f in video.read_frames(path)])


@pytest.mark.parametrize(
    ("matrix", "rotation", "corners"),
    [
        ((1, 0, 0, 1), 0, "RGBW"),
        ((0, 1, -1, 0), 90, "BRWG"),
        ((-1, 0, 0, -1), 180, "WBGR"),
        ((0, -1, 1, 0), 270, "GWRB"),
        ((-1, 0, 0, 1), 180, "GRWB"),  # mirrored left to right
        ((1, 0, 0, -1), 0, "BWRG"),  # mirrored top to bottom
        ((0, 1, 1, 0), 90, "RBGW"),  # transposed
        ((0, 0, 0, 0), 0, "RGBW"),  # degenerate: ignored
    ],
)
def test_rotation_and_mirroring_are_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], rotation: int, corners: str
) -> None:
    path = clips.write(tmp_path / "turned.mp4", [clips.quadrants(64, 96)] * 2, options={"crf": "1"})
    clips.set_display_matrix(path, *matrix)
    info = video.probe(path)
    image = next(video.read_frames(path)).image
    assert image.flags.c_contiguous
    assert image.shape == (info.height, info.width, 3) == ((96, 64, 3) if rotation in (90, 270) else (64, 96, 3))
    if corners != "GRWB":  # a mirror has no rotation of its own
        assert info.rotation == rotation
    names = {"R": clips.RED, "G": clips.GREEN, "B": clips.BLUE, "W": clips.WHITE}
    height, width = image.shape[:2]
    points = [(8, 8), (8, width - 9), (height - 9, 8), (height - 9, width - 9)]
    for point, colour in zip(points, corners, strict=True):
        assert np.abs(image[point].astype(int) - names[colour]).max() < 12


# ---- names, stills, bytes, load


@pytest.mark.parametrize("name", ["手 clip №1.mp4", "12:30 50% %03d.mp4", "-in.mp4", "a'b\"c#?.mp4"])
def test_file_names_are_only_names(tmp_path: Path, name: str) -> None:
    path = clips.write(tmp_path / "plain.mp4", clips.noise(2)).rename(tmp_path / name)
    assert len(list(video.read_frames(path))) == 2
    assert video.probe(str(path)).path == path


def test_relative_path_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips.write(tmp_path / "plain.mp4", clips.noise(2)).rename(tmp_path / "take:1.mp4")
    monkeypatch.chdir(tmp_path)
    assert video.load("take:1.mp4").frames.shape == (2, 96, 128, 3)


def test_one_frame_file(tmp_path: Path) -> None:
    clip = video.load(clips.write(tmp_path / "one.mp4", clips.noise(1)))
    assert clip.frames.shape == (1, 96, 128, 3)
    assert video.probe(tmp_path / "one.mp4").variable_rate is None


def test_still_is_one_upright_frame(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to show
    Image.fromarray(clips.quadrants()).save(tmp_path / "a.png", exif=exif)
    clip = video.load(tmp_path / "a.png")
    assert clip.fps == 1.0
    np.testing.assert_array_equal(clip.frames[0], np.rot90(clips.quadrants(), -1))
    assert video.probe(tmp_path / "a.png").height == 96


def test_stills_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    shades = [Image.new("RGB", (8, 8), (s, s, s)) for s in (0, 200)]
    shades[0].save(tmp_path / "moving.png", save_all=True, append_images=shades[1:])
    Image.fromarray(clips.noise(1)[0]).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    (tmp_path / "text.png").write_text("no image")
    assert "8 bits" in reason(tmp_path / "deep.png")
    assert "animation" in reason(tmp_path / "moving.png")
    assert "truncated" in reason(tmp_path / "half.jpg")
    assert "not an image" in reason(tmp_path / "text.png")
    assert "no such file" in reason(tmp_path / "absent.png")


def test_bytes_read_as_the_file_does(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(5))
    from_file, from_bytes = video.read_frames(path), video.read_bytes(path.read_bytes())
    for one, two in zip(from_file, from_bytes, strict=True):
        assert one.time == two.time
        np.testing.assert_array_equal(one.image, two.image)
    for data in (b"", b"junk" * 50):
        with pytest.raises(Unscorable, match=r"^<memory>: "):
            list(video.read_bytes(data))


def test_load_stops_where_told_and_hashes_pixels(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(9), rate=Fraction(24000, 1001))
    whole, part = video.load(path), video.load(path, max_frames=4, size=(32, 24), policy="crop")
    assert whole.frames.shape == (9, 96, 128, 3)
    assert whole.fps == float(Fraction(24000, 1001))
    assert whole.sha256 == video.pixel_sha256(whole.frames)
    np.testing.assert_array_equal(part.frames[3], video.resize(whole.frames[3], (32, 24), "crop"))
    assert len(part.frames) == 4
    with pytest.raises(ValueError, match="max_frames"):
        video.load(path, max_frames=0)
    with pytest.raises(Unscorable, match="do not fit in memory"):
        video.load(path, size=(400_000, 400_000))


def test_video_from_frames_checks_its_input() -> None:
    frames = clips.noise(2)
    assert video.video_from_frames(frames[:, :, ::-1], 5).frames.flags.c_contiguous
    for wrong in (frames.astype(float), frames[0], frames[..., :2], frames[:0]):
        with pytest.raises(ValueError, match="expected uint8"):
            video.video_from_frames(wrong, 25.0)
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps"):
            video.video_from_frames(frames, fps)


def test_streaming_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"  # 250 frames of 0.69 MB: 173 MB if they were kept
    video.encode((clips.quadrants(480, 480) for _ in range(250)), path, 25, preset="ultrafast")
    code = f"""
import resource
from ipa_bench import video
peaks = []
for index, frame in enumerate(video.read_frames({str(path)!r})):
    if index in (50, 249):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    assert int(run.stdout) * unit < 20e6


def test_transparent_pictures_stand_on_white(tmp_path: Path) -> None:
    from PIL import Image

    image = np.zeros((4, 6, 4), np.uint8)
    image[:, :3] = (200, 40, 50, 255)
    image[:, 3:] = (1, 2, 3, 0)
    image[0, 0] = (200, 40, 50, 51)  # a fifth of it
    Image.fromarray(image).save(tmp_path / "a.png")
    (frame,) = video.read_frames(tmp_path / "a.png")
    assert frame.image[1, 0].tolist() == [200, 40, 50]
    assert frame.image[1, 5].tolist() == [255, 255, 255]
    assert frame.image[0, 0].tolist() == pytest.approx([244, 212, 214], abs=1)


def test_a_preview_track_is_not_the_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as output:
        sizes = ((32, 18), (128, 72))
        streams = [output.add_stream("libx264", rate=25) for _ in sizes]
        for stream, (width, height) in zip(streams, sizes, strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(10):
            for stream, (width, height) in zip(streams, sizes, strict=True):
                picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 * index, np.uint8), format="rgb24")
                output.mux(stream.encode(picture))
        for stream in streams:
            output.mux(stream.encode(None))
    assert (video.probe(path).width, video.probe(path).height) == (128, 72)
    assert next(video.read_frames(path)).image.shape == (72, 128, 3)
