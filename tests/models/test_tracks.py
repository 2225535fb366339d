"""Pose tracks of several people become one pose video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipa_bench import pose, video
from ipa_bench.embedded.group.setting import Key, setting
from ipa_bench.embedded.group.shot import exact_poses
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.harness.generate import Poses
from ipa_bench.models.poses import write_tracks
from ipa_bench.types import Case


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tracks")
    poses = exact_poses(setting(Key(2, "val", 0), 6))
    for name, each in zip("ab", poses, strict=True):
        pose.write_track(each, 12.0, folder / f"{name}.npz")
    return [folder / "a.npz", folder / "b.npz"]


def test_both_are_drawn_on_one_map_at_the_rate_and_size_of_the_case(tracks: list[Path], tmp_path: Path) -> None:
    write_tracks(tracks, tmp_path / "all.mp4")
    made = video.load(tmp_path / "all.mp4")
    wanted = pose.draw_group([pose.read_track(track)[0] for track in tracks])
    assert (made.fps, made.frames.shape) == (12.0, wanted.shape)
    assert np.abs(made.frames.astype(int) - wanted).mean() < 3
    write_tracks(tracks, tmp_path / "half.mp4", fps=6.0, frames=2, size=(104, 64))
    half = video.load(tmp_path / "half.mp4")
    assert (half.fps, half.frames.shape) == (6.0, (2, 64, 104, 3))


def test_tracks_that_do_not_fit_together_are_named(tracks: list[Path], tmp_path: Path) -> None:
    one, _ = pose.read_track(tracks[0])
    pose.write_track(replace(one, size=(64, 64)), 12.0, tmp_path / "c.npz")
    with pytest.raises(UserError, match=r"a\.npz: 6 frames of 208x128 .*c\.npz: 6 frames of 64x64"):
        write_tracks([tracks[0], tmp_path / "c.npz"], tmp_path / "all.mp4")
    with pytest.raises(UserError, match="not 7"):
        write_tracks(tracks, tmp_path / "all.mp4", frames=7)


def test_a_case_of_several_people_is_driven_by_their_tracks(tracks: list[Path], tmp_path: Path) -> None:
    people = (("anna", tracks[0]), ("ben", tracks[0]))
    case = Case("pair", tracks[0], references=people, poses=(("anna", tracks[0]), ("ben", tracks[1])))
    poses = Poses(tmp_path / "poses")
    drawn = poses.of(case)
    assert video.load(drawn).frames.shape == (6, 128, 208, 3)
    assert poses.of(case) == drawn
    with pytest.raises(Unscorable, match="no pose track of ben"):
        poses.of(replace(case, poses=(("anna", tracks[0]),)))
