"""Folders of pictures as clips of a system: every pixel, the right rate, and a reason where a frame is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.models.folder import FolderModel
from ipa_bench.types import Case, UInt8

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 37, 53, 3), np.uint8)  # odd sides, no smooth region


@pytest.fixture(scope="module")
def driving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("driving") / "wave.mp4"
    video.encode(FRAMES[:, :36, :52], path, 24)
    return path


def write(folder: Path, names: list[str], frames: UInt8 = FRAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, frames, strict=False):
        Image.fromarray(frame).save(folder / name, quality=90)
    return folder


def model(tmp_path: Path, fps: float | None = None) -> FolderModel:
    return FolderModel("A", tmp_path / "out", made=tmp_path / "made", fps=fps)


@pytest.mark.parametrize(
    ("folder", "seed"), [("wave", 0), ("wave_seed3", 3), ("wave-seed3", 3), ("wave/3", 3), ("wave/seed_3", 3)]
)
def test_pictures_are_a_clip_with_every_value(tmp_path: Path, driving: Path, folder: str, seed: int) -> None:
    """In the order of numbers, not of names: 8, 9, 10 ..."""
    write(tmp_path / "out" / folder, [f"frame {number}.png" for number in range(8, 14)])
    made = model(tmp_path).generate(Case("wave", driving), seed)
    assert np.array_equal(video.load(made).frames, FRAMES)
    assert video.probe(made).fps == 24
    assert model(tmp_path).match([Case("wave", driving)], [seed]).found == {("wave", seed): tmp_path / "out" / folder}


def test_jpegs_are_as_pillow_reads_them(tmp_path: Path, driving: Path) -> None:
    folder = write(tmp_path / "out" / "wave", [f"{number:05d}.JPG" for number in range(6)])
    made = model(tmp_path).generate(Case("wave", driving), 0)
    wanted = [np.array(Image.open(file)) for file in sorted(folder.iterdir())]
    assert np.array_equal(video.load(made).frames, wanted)


@pytest.mark.parametrize(("of_model", "of_case", "fps"), [(None, None, 24), (None, 12, 12), (8, 12, 8)])
def test_the_rate_is_the_models_or_the_cases_or_the_driving_clips(
    tmp_path: Path, driving: Path, of_model: float | None, of_case: float | None, fps: float
) -> None:
    write(tmp_path / "out" / "wave", [f"{number}.png" for number in range(6)])
    made = model(tmp_path, of_model).generate(Case("wave", driving, fps=of_case), 0)
    assert video.probe(made).fps == fps


def test_the_clip_is_made_once_and_again_when_a_picture_changes(tmp_path: Path, driving: Path) -> None:
    folder = write(tmp_path / "out" / "wave", [f"{number}.png" for number in range(6)])
    first = model(tmp_path).generate(Case("wave", driving), 0)
    written = first.stat().st_mtime_ns
    assert model(tmp_path).generate(Case("wave", driving), 0) == first
    assert first.stat().st_mtime_ns == written
    Image.fromarray(FRAMES[0]).save(folder / "3.png")
    again = model(tmp_path).generate(Case("wave", driving), 0)
    assert np.array_equal(video.load(again).frames[3], FRAMES[0])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["1.png", "2.png", "4.png"], "wave: no frame 3 between 2 and 4"),
        (["1.png", "2.png", "02.jpg"], "wave: 02.jpg and 2.png are both frame 2"),
        (["1.png", "2.png", "cover.png"], "wave: cover.png has no number to put it in order"),
    ],
)
def test_pictures_that_are_no_clip(tmp_path: Path, driving: Path, names: list[str], why: str) -> None:
    write(tmp_path / "out" / "wave", names)
    (missing,) = model(tmp_path).match([Case("wave", driving)], [0]).missing
    assert missing.reason == why


def test_pictures_of_two_sizes_and_broken_ones(tmp_path: Path, driving: Path) -> None:
    folder = write(tmp_path / "out" / "wave", ["1.png", "2.png"])
    Image.fromarray(FRAMES[0, :20]).save(folder / "3.png")
    with pytest.raises(Unscorable, match=r"wave: 3\.png is 53x20, the first frame 53x37"):
        model(tmp_path).generate(Case("wave", driving), 0)
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(Unscorable, match=r"3\.png: not an image"):
        model(tmp_path).generate(Case("wave", driving), 0)
    assert not list((tmp_path / "made").glob("*"))


def test_a_video_comes_before_a_folder_of_its_frames(tmp_path: Path, driving: Path) -> None:
    write(tmp_path / "out" / "wave", ["1.png", "2.png"])
    (tmp_path / "out" / "wave.mp4").write_bytes(driving.read_bytes())
    assert model(tmp_path).generate(Case("wave", driving), 0) == tmp_path / "out" / "wave.mp4"
    write(tmp_path / "out" / "nod_seed1", ["1.png", "2.png"])
    write(tmp_path / "out" / "nod" / "1", ["1.png", "2.png"])
    with pytest.raises(UserError, match="nod/1 and nod_seed1 are both case nod seed 1"):
        model(tmp_path).generate(Case("nod", driving), 1)


def test_previews_beside_videos_and_single_pictures_are_no_clips(tmp_path: Path, driving: Path) -> None:
    write(tmp_path / "out" / "wave", ["0.png", "1.png"])
    (tmp_path / "out" / "wave" / "0.mp4").write_bytes(driving.read_bytes())
    write(tmp_path / "out" / "nod", ["0.png"])
    match = model(tmp_path).match([Case("wave", driving), Case("nod", driving)], [0])
    assert list(match.found.values()) == [tmp_path / "out" / "wave" / "0.mp4"]
    assert match.missing[0].reason == "no video named nod in out"
    assert match.extra == ()


def test_a_frame_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, driving: Path) -> None:
    folder = write(tmp_path / "out" / "wave", ["1.png", "2.png"])
    write(tmp_path / "elsewhere", ["3.png"])
    (folder / "3.png").symlink_to(tmp_path / "elsewhere" / "3.png")
    (missing,) = model(tmp_path).match([Case("wave", driving)], [0]).missing
    assert missing.reason.startswith("wave/3.png is a link out of the folder out")
