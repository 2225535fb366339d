"""Pose videos: which frames, which part of the picture, and what the verb says about them."""

import itertools

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.cli import pose as console_pose
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.models import poses as posing
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pose import observe_pose
from ipa_bench.pose import cropped, draw
from ipa_bench.video.timing import resampled
from tests.clips import write


@pytest.fixture(autouse=True)
def own_cache(cache_folder, monkeypatch):
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))


@pytest.fixture
def clip(footage):
    return footage.longer / "bert__wave.mp4"


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty.mp4"
    video.encode([np.full((96, 128, 3), 90, np.uint8)] * 3, path, 25)
    return path


def test_a_square_pose_video_of_a_wide_clip(clip, tmp_path):
    made = posing.write_pose(clip, tmp_path / "out.mp4", Looker(), size=(128, 128), fps=8, frames=7)
    assert (made.frames, made.fps, made.size, made.body) == (7, 8, (128, 128), 7)
    stored = video.load(tmp_path / "out.mp4")
    assert (stored.frames.shape, stored.fps) == ((7, 128, 128, 3), 8)
    shown = resampled(np.arange(24) / 25, 25, 8, 7)
    wanted = draw(cropped(observe_pose(clip, Looker()), (128, 128)))[shown]
    # 4:2:0 takes chroma from thin lines, not the lines.
    luma = np.array([0.2126, 0.7152, 0.0722])
    lit = wanted.max(axis=-1) > 60
    assert np.abs(wanted @ luma - stored.frames @ luma)[lit].mean() < 4
    assert stored.frames[~lit].mean() < 3


def test_a_held_end_and_a_changing_rate_do_not_warp_time(clip, tmp_path):
    """What is on screen at a time is drawn at that time."""
    frames = [frame.image for frame in video.read_frames(clip)][:12]
    stamps = [*range(8), *range(9, 17, 2)]  # at 25 a second, the last four at 12.5
    write(tmp_path / "varies.mp4", frames, rate=25, stamps=stamps, hold=75, options={"crf": "12"})
    made = posing.write_pose(tmp_path / "varies.mp4", tmp_path / "out.mp4", Looker())
    assert (made.fps, made.frames) == (25, 16)
    drawn = [frame.image.astype(int) for frame in video.read_frames(tmp_path / "out.mp4")]
    still = [float(np.abs(a - b).mean()) for a, b in itertools.pairwise(drawn)]
    # from the eighth on every frame is drawn twice
    assert max(still[7::2]) < min(still[8::2])


def test_nobody_in_it(empty, tmp_path):
    with pytest.raises(UserError, match=r"empty\.mp4: no person was found in any frame of 3"):
        posing.write_pose(empty, tmp_path / "out.mp4", Looker())
    assert not (tmp_path / "out.mp4").exists()


def test_what_the_verb_prints(clip, tmp_path, capsys):
    assert console_pose.pose_clips([clip], tmp_path / "new" / "pose.mp4", "128x128", 8, 5, 1)
    printed = capsys.readouterr().out
    assert "pose.mp4  128x128, 5 frames at 8 fps: body in 5, left hand in 0, right hand in" in printed


def test_one_bad_clip_does_not_end_the_others(clip, empty, tmp_path, capsys):
    assert not console_pose.pose_clips([empty, clip], tmp_path / "poses", None, None, 2, 1)
    captured = capsys.readouterr()
    assert "not drawn: empty.mp4: no person was found" in captured.err
    assert f"{clip.stem}.mp4  320x180, 2 frames at 25 fps" in captured.out
    assert [path.name for path in (tmp_path / "poses").iterdir()] == [f"{clip.stem}.mp4"]


def test_a_clip_that_does_not_decode(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(Unscorable, match=r"broken\.mp4"):
        console_pose.pose_clips([path], tmp_path / "poses", None, None, None, 1)


@pytest.mark.parametrize("text", ["128", "0x0", "127x128", "128x128x3", "-2x4", "9000x9000", "8x8"])
def test_a_size_that_is_none(text):
    with pytest.raises(UserError, match="is not a size"):
        console_pose.size_of(text)


def test_sizes():
    assert console_pose.size_of("832X480") == (832, 480)


def test_where_pose_videos_go(tmp_path):
    a, b = tmp_path / "a.mp4", tmp_path / "b.mov"
    assert console_pose.outputs([a, b], tmp_path / "poses") == [tmp_path / "poses/a.mp4", tmp_path / "poses/b.mp4"]
    assert console_pose.outputs([b], tmp_path / "b.mp4") == [tmp_path / "b.mp4"]
    for clips, out, problem in (
        ([a, b], tmp_path / "one.mp4", "is one video, but there are 2 clips"),
        ([a], tmp_path / "one.webm", "pose videos are MP4"),
        ([a], a, "written over a clip"),
        ([a, b], tmp_path, "written over a clip"),
        ([tmp_path / "x/a.mp4", tmp_path / "y/a.mp4"], tmp_path / "poses", "two clips are called a"),
    ):
        with pytest.raises(UserError, match=problem):
            console_pose.outputs(clips, out)


def test_a_rate_that_is_none(clip, tmp_path):
    with pytest.raises(UserError, match="--fps 0 is not in"):
        console_pose.pose_clips([clip], tmp_path / "poses", None, 0, None, 1)
