"""Clips whose frames do not come at one rate, and containers that round: pose videos and copies keep their time."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.models import poses as posing
from ipa_bench.models.controls import DamageModel, ReencodeModel
from ipa_bench.pose import Pose, draw
from ipa_bench.types import Case
from tests import clips
from tests.hands import made_up


def times_of(path):
    return np.array([frame.time for frame in video.read_frames(path)])


def hands_of(path):
    """Some hands with the times of a file's frames: all that copies and pose videos read of them here."""
    times = times_of(path)
    return replace(made_up(len(times)), times=times, size=(160, 96))


class Looker:
    """Sees those hands."""

    hands = staticmethod(hands_of)


def distinct_poses(count):
    """An arm that turns all the way round once: no two frames look alike."""
    body = np.zeros((count, 18, 2), np.float32)
    angle = 2 * np.pi * np.arange(count) / count
    body[:, 2] = (80, 48)
    body[:, 3] = np.stack([80 + 40 * np.cos(angle), 48 + 40 * np.sin(angle)], -1)
    found = np.zeros((count, 18), bool)
    found[:, [2, 3]] = True
    return Pose(body, found, np.zeros((count, 2, 21, 2), np.float32), np.zeros((count, 2, 21), bool), (160, 96))


RNG = np.random.default_rng(0)
#: milliseconds at which frames are shown
VARYING = {
    "half a second at 50, then 12.5 a second": [20 * i for i in range(25)] + [500 + 80 * i for i in range(25)],
    "a phone whose exposure varies": np.cumsum(RNG.integers(26, 47, 40)).tolist(),
    "a screen recording that stops twice": [
        *range(0, 600, 40), *range(1500, 2000, 40), *range(4000, 4300, 40)
    ],
    "a slide show": [0, 300, 1100, 1350, 2900, 3050, 4400],
}  # fmt: skip


@pytest.mark.parametrize("name", VARYING)
@pytest.mark.parametrize("fps", [None, 16.0])
def test_a_pose_is_drawn_when_its_frame_is_on_screen(name, fps, tmp_path, monkeypatch):
    """Each frame of the pose video shows the pose of the source frame on screen at its time, told by its own look."""
    stamps = [int(t) - int(VARYING[name][0]) for t in VARYING[name]]
    path = tmp_path / "clip.mp4"
    clips.write(path, clips.noise(len(stamps), 96, 160), rate=1000, stamps=stamps)
    poses = distinct_poses(len(stamps))
    monkeypatch.setattr(posing, "observe_pose", lambda *_, **__: poses)
    made = posing.write_pose(path, tmp_path / "pose.mp4", Looker(), fps=fps)
    looks = draw(poses)[:, ::3, ::3].astype(np.int16)
    source, half = np.array(stamps) / 1000, 0.5 / video.probe(path).fps
    frames = list(video.read_frames(tmp_path / "pose.mp4"))
    assert len(frames) == made.frames
    for frame in frames:
        shown = int(np.argmin(np.abs(looks - frame.image[::3, ::3]).mean(axis=(1, 2, 3))))
        on_screen = np.flatnonzero(source <= frame.time + 1e-6)[-1]
        assert shown == on_screen or abs(source[shown] - frame.time) <= half + 1e-6, (frame.time, shown, on_screen)


def remuxed(path, to):
    """The same packets in another container, which may round their times."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return to


@pytest.mark.parametrize("rate", [60, Fraction(60000, 1001), Fraction(24000, 1001), 90])
@pytest.mark.parametrize("model", ["reencode", "lag", "upper bound"])
def test_a_copy_has_the_rate_of_its_clip_in_any_container(rate, model, tmp_path):
    """Matroska keeps whole milliseconds: 60 a second is 16, 17, 17 ms. The same packets in MP4 give the same copy."""
    source = tmp_path / "clip.mp4"
    clips.write(source, clips.smooth(50), rate=rate)
    copies = []
    for path in (source, remuxed(source, tmp_path / "clip.mkv")):
        folder = tmp_path / path.suffix[1:]
        made = (
            ReencodeModel("m", 18, folder)
            if model == "upper bound"
            else DamageModel("m", model, "medium", folder, hands_of)
        )
        copies.append(made.generate(Case("c", path, path), 0))
    rates = [video.probe(copy).fps for copy in copies]
    assert rates == pytest.approx([float(rate)] * 2, rel=1e-3)
    one, other = ([frame.image for frame in video.read_frames(copy)] for copy in copies)
    assert len(one) == len(other) == 50
    np.testing.assert_array_equal(np.array(one), np.array(other))
