"""Frames that stay in memory: the same as those of the file, decoded once while they fit."""

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.video import keep
from tests.clips import smooth


@pytest.fixture
def reads(monkeypatch):
    """The files that were decoded."""
    seen = []

    def counted(path):
        seen.append(path)
        return video.read_frames(path)

    monkeypatch.setattr(keep, "read_frames", counted)
    return seen


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    video.encode(smooth(6, 48, 64), path, 25)
    return path


def same(one, other):
    assert [f.time for f in one] == [f.time for f in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_a_clip_is_decoded_once_and_the_next_takes_its_place(clip, reads, tmp_path):
    keeper, plain = video.Keeper(), list(video.read_frames(clip))
    for _ in range(3):
        same(list(keeper.frames(clip, "a")), plain)
    assert len(reads) == 1
    other = tmp_path / "other.mp4"
    video.encode(smooth(5, 48, 64), other, 25)
    assert len(list(keeper.frames(other, "b"))) == 5
    assert len(list(keeper.frames(clip, "a"))) == 6
    assert len(reads) == 3
    keeper.forget()
    same(list(keeper.frames(clip, "a")), plain)
    assert len(reads) == 4


def test_a_reader_that_stops_early_leaves_nothing_but_where_it_had_all(clip, reads):
    keeper = video.Keeper()
    for wanted, count in ((3, None), (6, 6)):
        frames = keeper.frames(clip, "a", count)
        assert len([next(frames) for _ in range(wanted)]) == wanted
    assert len(list(keeper.frames(clip, "a"))) == 6
    assert len(reads) == 2


def test_a_clip_that_does_not_fit_is_decoded_again(clip, reads):
    keeper, plain = video.Keeper(limit=6 * 64 * 48 * 3 - 1), list(video.read_frames(clip))
    for _ in range(2):
        same(list(keeper.frames(clip, "a", 6)), plain)
    assert len(reads) == 2
    fits = video.Keeper(limit=6 * 64 * 48 * 3)
    for _ in range(2):
        same(list(fits.frames(clip, "a")), plain)
    assert len(reads) == 3


def test_what_breaks_off_is_not_kept(clip, reads):
    clip.write_bytes(clip.read_bytes()[:-200])
    keeper = video.Keeper()
    for _ in range(2):
        with pytest.raises(Unscorable):
            list(keeper.frames(clip, "a"))
    assert len(reads) == 2
