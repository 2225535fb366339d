"""From a clip to its pose map as a video: the driving signal for a model that is conditioned on poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pose import joined, observe_pose
from ipa_bench.pose import BODY_JOINTS, Pose, cropped, draw_frame, draw_group, inside, read_track, write_track
from ipa_bench.types import UInt8
from ipa_bench.video.timing import Int64, resampled

#: thin coloured lines are what compression takes first
CRF = 6


@dataclass(frozen=True)
class PoseVideo:
    """What was written, and in how many of its frames something of the person is."""

    path: Path
    frames: int
    fps: float
    #: (width, height)
    size: tuple[int, int]
    body: int
    left_hand: int
    right_hand: int


def write_pose(
    clip: Path,
    out: Path,
    looker: Looker,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PoseVideo:
    """Draw the pose of ``clip`` into the MP4 ``out``, frame by frame; memory does not grow with its pixels.

    ``size`` (width, height) in pixels: the centre of the clip in that aspect ratio, as ``crop`` of
    :func:`ipa_bench.video.resize`; by default the clip's own. ``fps`` and ``frames`` as in
    :func:`ipa_bench.video.timing.resampled`; by default the clip's rate (of its quickest part where it varies), and
    all there are.
    ``progress(done, total)`` hears of source frames looked at.

    Raises :class:`Unscorable` where the clip does not decode, :class:`UserError` where nobody is in it, it is too
    short, or ``out`` cannot be written.
    """
    info = video.probe(clip)
    pose = observe_pose(clip, looker, progress=progress and _of(info, progress))
    times, source_fps = looker.hands(clip).times, info.fps
    try:
        shown = resampled(times, source_fps, fps or source_fps, frames)
    except ValueError as error:
        raise UserError(f"{clip.name} {error}, not {frames}", "ask for fewer frames or give a longer clip") from None
    pose = _shown(pose, shown, size)
    body, hands = pose.body_found.any(axis=1), pose.hands_found.any(axis=2)
    if not (body.any() or hands.any()):
        where = f"in any frame of {len(pose)}"
        raise UserError(f"{clip.name}: no person was found {where}", "a pose needs one person, well in view")
    video.encode(_drawn(pose), out, fps or source_fps, crf=CRF)
    left, right = (int(count) for count in hands.sum(axis=0))
    return PoseVideo(out, len(pose), fps or source_fps, pose.size, int(body.sum()), left, right)


def _of(info: video.VideoInfo, progress: Callable[[int, int], None]) -> Callable[[int], None]:
    """Progress among as many frames as the container says, or duration and rate do, where it is not more already."""
    total = info.declared_frames or round((info.duration or 0.0) * info.fps)
    return lambda done: progress(done, max(done, total))


def write_people(
    clip: Path,
    out: Path,
    looker: Looker,
    people: int,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    frames: int | None = None,
) -> list[PoseVideo]:
    """Draw the poses of so many people of ``clip`` into the MP4 ``out``, and store a track of each beside it.

    They are those who are seen longest, from the left as they are first seen: ``out`` with ``.a.npz``, ``.b.npz``, ...
    Options as in :func:`write_pose`; what is given has a line for each. Raises as :func:`write_pose` does, and
    :class:`UserError` where fewer people are seen in half of the frames.
    """
    source_fps = video.probe(clip).fps
    seen = looker.look(clip, ("people",)).observations["people"]
    often = int((seen["found"].sum(0) >= len(seen["found"]) / 2).sum())
    if often < people:
        raise UserError(f"{clip.name}: {often} people are seen in half of the frames, not {people}", "ask for fewer")
    necks = [float(seen["body"][seen["found"][:, n], n, BODY_JOINTS.index("neck"), 0][:1].sum()) for n in range(people)]
    try:
        shown = resampled(seen["times"], source_fps, fps or source_fps, frames)
    except ValueError as error:
        raise UserError(f"{clip.name} {error}, not {frames}", "ask for fewer frames or give a longer clip") from None
    width, height = (int(side) for side in seen["size"])
    poses, made = [], []
    for letter, n in zip(ascii_lowercase, np.argsort(necks, kind="stable"), strict=False):
        hands = np.repeat(seen["hands_found"][:, n, :, None], 21, axis=2)
        whole = inside(Pose(seen["body"][:, n], seen["body_found"][:, n], seen["hands"][:, n], hands, (width, height)))
        pose = _shown(replace(whole, body_found=joined(whole.body_found)), shown, size)
        track = out.with_suffix(f".{letter}.npz")
        write_track(pose, fps or source_fps, track)
        body, (left, right) = pose.body_found.any(axis=1).sum(), pose.hands_found.any(axis=2).sum(axis=0)
        poses.append(pose)
        made.append(PoseVideo(track, len(pose), fps or source_fps, pose.size, int(body), int(left), int(right)))
    video.encode(draw_group(poses), out, fps or source_fps, crf=CRF)
    return made


def write_tracks(
    tracks: Sequence[Path],
    out: Path,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    frames: int | None = None,
) -> None:
    """Draw the pose tracks of several people (:func:`ipa_bench.pose.read_track`) into the MP4 ``out``, as one map.

    ``size``, ``fps`` and ``frames`` as in :func:`write_pose`. Raises :class:`UserError` for a file that is no track,
    tracks of different lengths, rates or sizes, and for too short ones.
    """
    read = [read_track(track) for track in tracks]
    if len({(len(pose), pose.size, rate) for pose, rate in read}) != 1:
        about = "; ".join(f"{t.name}: {len(p)} frames of {p.size[0]}x{p.size[1]} at {r:g} per second"
                          for t, (p, r) in zip(tracks, read, strict=True))  # fmt: skip
        raise UserError(f"the poses of one clip differ: {about}", "give them one length, size and rate")
    count, source_fps = len(read[0][0]), read[0][1]
    try:
        shown = resampled(np.arange(count) / source_fps, source_fps, fps or source_fps, frames)
    except ValueError as error:
        raise UserError(f"{tracks[0].name} {error}, not {frames}", "ask for fewer frames or give longer ones") from None
    poses = [_shown(pose, shown, size) for pose, _ in read]
    video.encode(draw_group(poses), out, fps or source_fps, crf=CRF)


def _shown(pose: Pose, shown: Int64, size: tuple[int, int] | None) -> Pose:
    """The frames of a pose that are shown, in a frame of that size where one is given."""
    chosen = {name: getattr(pose, name)[shown] for name in ("body", "body_found", "hands", "hands_found")}
    pose = replace(pose, **chosen)
    return pose if size is None else cropped(pose, size)


def _drawn(pose: Pose) -> Iterator[UInt8]:
    for frame in zip(pose.body, pose.body_found, pose.hands, pose.hands_found, strict=True):
        yield draw_frame(*frame, pose.size)


@dataclass(frozen=True)
class Work:
    """One clip to draw, for a worker process; fields as the arguments of :func:`write_pose`."""

    clip: Path
    out: Path
    size: tuple[int, int] | None
    fps: float | None
    frames: int | None


#: the looker of this process, once :func:`start` has run
_lookers: list[Looker] = []


def start(threads: int) -> None:
    """Once in each worker: models are loaded when first needed and kept."""
    _lookers[:] = [Looker(threads=threads)]


def pose_file(work: Work, progress: Callable[[int, int], None] | None = None) -> PoseVideo | Unscorable | UserError:
    """:func:`write_pose`, with an expected failure as its result: one bad clip does not end the others."""
    try:
        return write_pose(
            work.clip, work.out, _lookers[0], size=work.size, fps=work.fps, frames=work.frames, progress=progress
        )
    except (Unscorable, UserError) as error:
        return error
