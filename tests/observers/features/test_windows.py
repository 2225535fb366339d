"""Windows against the sentence that defines them, and how many frames are held."""

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.errors import Unscorable
from ipa_bench.observers.features.windows import require, starts, stream

numbers = {"frames": st.integers(0, 40), "length": st.integers(1, 20), "stride": st.integers(1, 25)}


def frame(index):
    """float32 ``[3, 2, 4]`` that tells its index."""
    return np.full((3, 2, 4), index, np.float32) + np.arange(3, dtype=np.float32)[:, None, None] / 10


def shown(window):
    """The indices of a window's frames."""
    assert window.values.dtype == np.float32
    assert window.values.flags.c_contiguous
    return [int(value) for value in window.values[0, :, 1, 3]]


@given(**numbers)
def test_every_window_that_lies_in_the_clip(frames, length, stride):
    expected = [first for first in range(frames) if first % stride == 0 and first + length <= frames]
    assert list(starts(frames, length, stride)) == expected
    windows = list(stream(range(frames), frame, length, stride))
    assert [window.start for window in windows] == expected
    assert [shown(window) for window in windows] == [list(range(f, f + length)) for f in expected]


@given(**numbers)
def test_padded_windows_repeat_the_last_frame(frames, length, stride):
    expected = [[min(f + k, frames - 1) for k in range(length)] for f in range(frames) if f % stride == 0]
    assert [first for first in range(frames) if first % stride == 0] == list(starts(frames, length, stride, pad=True))
    assert [shown(window) for window in stream(range(frames), frame, length, stride, pad=True)] == expected


def test_discos_segments():
    # 40 frames: 16, 16, and 8 with the last one eight times more
    windows = list(stream(range(40), frame, 16, 16, pad=True))
    assert [window.start for window in windows] == [0, 16, 32]
    assert shown(windows[2]) == [*range(32, 40), *[39] * 8]
    # a multiple is not padded
    assert len(list(stream(range(32), frame, 16, 16, pad=True))) == 2
    # a clip shorter than a segment is one
    assert [shown(window) for window in stream(range(3), frame, 16, 16, pad=True)] == [[0, 1] + [2] * 14]


def test_stride_one_is_every_run_of_frames():
    assert list(starts(30, 16, 1)) == list(range(15))


def test_channels_come_before_time():
    (window,) = stream(range(5), frame, 5, 5)
    assert window.values.shape == (3, 5, 2, 4)
    assert window.values[:, 2, 0, 0] == pytest.approx([2.0, 2.1, 2.2])


@given(**numbers)
def test_a_frame_is_prepared_once_and_only_if_it_may_be_in_a_window(frames, length, stride):
    prepared = []

    def prepare(index):
        prepared.append(index)
        return frame(index)

    list(stream(range(frames), prepare, length, stride))
    assert prepared == [index for index in range(frames) if index % stride < length]


@pytest.mark.parametrize(("length", "stride", "pad"), [(4, 1, False), (4, 2, True), (3, 7, False), (5, 5, True)])
def test_no_more_frames_are_held_than_a_window_has(length, stride, pad):
    alive = set()
    most = 0

    def prepare(index):
        nonlocal most
        made = frame(index)
        alive.add(index)
        weakref.finalize(made, alive.discard, index)
        most = max(most, len(alive))
        return made

    for window in stream(range(50), prepare, length, stride, pad=pad):
        del window
    assert most <= length + 1  # the one that is being made


def test_a_window_is_a_copy():
    windows = stream(range(6), frame, 4, 1)
    first = next(windows)
    first.values[:] = -1
    assert shown(next(windows)) == [1, 2, 3, 4]


def test_a_short_clip_gives_a_reason_with_the_frames_it_needs():
    require("a.mp4", 16, 16, 9)
    with pytest.raises(
        Unscorable, match=r"^a.mp4: has 12 frames, a window needs 16 \(the network itself takes 9 or more"
    ):
        require("a.mp4", 12, 16, 9)
    with pytest.raises(
        Unscorable, match=r"^a.mp4: has 8 frames, a window needs 16 \(the network takes no fewer than 9\)"
    ):
        require("a.mp4", 8, 16, 9)


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (1, 0), (-1, 1)])
def test_numbers_below_one_are_refused(length, stride):
    with pytest.raises(ValueError, match="at least 1"):
        starts(10, length, stride)
    with pytest.raises(ValueError, match="at least 1"):
        next(stream(range(10), frame, length, stride))
