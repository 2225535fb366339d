"""The rate of a clip from its timestamps, and which frame is on screen when."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.video.timing import is_constant, rate_of, resample, resampled, shown_at
from tests import clips

RATES = [12.0, 16.0, 24.0, 25.0, 30.0, 50.0, 60.0, 120.0, 24000 / 1001, 30000 / 1001, 60000 / 1001]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [3, 24, 195])
def test_a_rate_is_found_again(rate, count):
    times = np.arange(count) / rate
    assert rate_of(times) == pytest.approx(rate, rel=1e-9)
    assert is_constant(times)


@pytest.mark.parametrize("rate", [24.0, 25.0, 30.0, 50.0, 60.0, 24000 / 1001, 60000 / 1001])
def test_whole_milliseconds_hide_no_rate(rate):
    times = np.round(np.arange(195) * 1000 / rate) / 1000
    assert is_constant(times)
    assert rate_of(times) == pytest.approx(rate, rel=1e-9)


def test_what_the_container_says_is_taken_where_it_agrees_and_not_where_the_last_frame_is_held():
    times = np.arange(50) / 25
    assert rate_of(times, 25.000001) == 25.000001
    assert rate_of(times, 10.1) == pytest.approx(25)


def test_a_pause_does_not_slow_a_clip_down():
    times = np.concatenate([np.arange(25) / 25, 3 + np.arange(25) / 25])
    assert not is_constant(times)
    assert rate_of(times) == pytest.approx(25)


def test_of_a_rate_that_changes_the_quick_part_keeps_its_frames():
    times = np.concatenate([np.arange(25) / 50, 0.5 + np.arange(25) / 12.5])
    assert rate_of(times) == pytest.approx(50)
    assert set(resampled(times, 50.0, 50.0)) == set(range(50))


def test_one_frame_has_no_rate():
    assert rate_of(np.zeros(1)) is None
    assert is_constant(np.zeros(1))


@given(st.sampled_from(RATES), st.sampled_from(RATES), st.integers(2, 80))
def test_of_a_constant_rate_the_nearest_frame_is_shown(rate, fps, count):
    times = np.arange(count) / rate
    shown = resampled(times, rate, fps)
    whole = math.floor(round(count / rate * fps, 6) + 0.5)  # half a frame at the end is a frame
    assert len(shown) in (max(1, whole), math.floor(round((count - 1.5) / rate * fps, 6)) + 1)
    for k, index in enumerate(shown):  # a slow twin: the nearest, of two that are as near the earlier one
        assert index == int(np.abs(times - k / fps).round(6).argmin())


@given(st.lists(st.floats(0.02, 2.0), min_size=2, max_size=30), st.sampled_from(RATES))
def test_a_held_frame_stays_until_the_next_one_comes(steps, fps):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    rate = rate_of(times)
    wanted = np.arange(0, times[-1], 1 / fps)
    for at, index in zip(wanted, shown_at(times, rate, wanted), strict=True):
        assert times[index] <= at + 0.5 / rate + 1e-5
        assert index == len(times) - 1 or times[index + 1] >= at + 0.5 / rate - 1e-5


@given(st.lists(st.floats(0.02, 2.0), max_size=30), st.sampled_from(RATES))
def test_frames_that_stream_by_are_the_same(steps, fps):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    rate = rate_of(times) or 25.0
    stream = (video.Frame(np.full((1, 1, 3), index, np.uint8), time) for index, time in enumerate(times))
    assert [int(image[0, 0, 0]) for image in resample(stream, rate, fps)] == resampled(times, rate, fps).tolist()


def test_a_slow_clip_is_held_and_a_quick_one_loses_frames():
    def shown(times, fps):
        frames = (video.Frame(np.full((1, 1, 3), index, np.uint8), time) for index, time in enumerate(times))
        return [int(image[0, 0, 0]) for image in resample(frames, rate_of(np.array(times)) or 25, fps)]

    assert shown([0.0, 0.1, 0.5, 0.6], 10) == [0, 1, 1, 1, 1, 2, 3]
    assert shown([0.0, 0.3, 0.6], 10) == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert shown([index / 50 for index in range(10)], 25) == [0, 2, 4, 6, 8]
    assert shown([], 10) == []


def test_too_few_frames_are_said():
    with pytest.raises(ValueError, match="has 16 frames at 16 per second"):
        resampled(np.arange(25) / 25, 25.0, 16.0, 17)


# files


def bars(count):
    """Picture i shows a bar 3 i + 1 wide, so that the order is visible."""
    for index in range(count):
        image = np.zeros((96, 160, 3), np.uint8)
        image[:, : 3 * index + 1] = 200
        yield image


def widths(path):
    return [int((frame.image[48, :, 0] > 100).sum()) for frame in video.read_frames(path)]


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.avi"), ("mpeg4", "b.avi"), ("libx264", "c.h264")])
def test_containers_without_timestamps_of_showing(tmp_path, codec, name):
    path = clips.write(tmp_path / name, bars(50), codec=codec, options={"bf": "3", "b-adapt": "0"})
    seen = widths(path)
    assert seen == sorted(seen)
    times = [frame.time for frame in video.read_frames(path)]
    np.testing.assert_allclose(times, np.arange(50) / 25, atol=1e-6)


@pytest.mark.parametrize("name", ["held.mp4", "held.mkv", "held.webm"])
def test_a_held_last_frame_is_neither_damage_nor_slow_motion(tmp_path, name):
    codec = "libvpx" if name.endswith("webm") else "libx264"
    path = clips.write(tmp_path / name, clips.noise(30), codec=codec, rate=25, hold=50)
    frames = list(video.read_frames(path))
    assert len(frames) == 30
    assert frames[-1].time == pytest.approx(29 / 25, abs=1e-3)
    assert video.probe(path).fps == pytest.approx(25)


def test_a_gif_with_a_pause_at_its_end_moves_as_fast_as_before(tmp_path):
    from PIL import Image

    images = [Image.fromarray(image) for image in clips.noise(12)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[80] * 11 + [2000])
    assert video.probe(tmp_path / "a.gif").fps == pytest.approx(12.5)
    assert len(list(video.read_frames(tmp_path / "a.gif"))) == 12


def test_a_repeated_timestamp_loses_no_frame(tmp_path):
    stamps = [*range(10), 9, *range(11, 20)]  # the eleventh frame has the timestamp of the tenth
    path = clips.write(tmp_path / "a.mkv", bars(20), codec="ffv1", pix_fmt="bgr0", stamps=stamps)
    frames = list(video.read_frames(path))
    assert len(frames) == 20
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    assert times[10] == pytest.approx((9 + 11) / 2 / 25, abs=1e-3)


def test_timestamps_that_go_back_are_damage(tmp_path):
    path = clips.write(tmp_path / "a.avi", bars(20), codec="mpeg4", rate=Fraction(25))
    assert len(widths(path)) == 20
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(Unscorable):
        widths(path)
