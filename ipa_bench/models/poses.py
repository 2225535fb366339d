"""From a clip to its pose map as a video: the driving signal for a model that is conditioned on poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pose import observe_pose
from ipa_bench.pose import Pose, cropped, draw_frame
from ipa_bench.types import UInt8
from ipa_bench.video.timing import resampled

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
    times, source_fps = looker.hands(clip).times, video.probe(clip).fps
    try:
        shown = resampled(times, source_fps, fps or source_fps, frames)
    except ValueError as error:
        raise UserError(f"{clip.name} {error}, not {frames}", "ask for fewer frames or give a longer clip") from None
    pose = observe_pose(clip, looker, progress=progress)
    pose = replace(
        pose,
        body=pose.body[shown],
        body_found=pose.body_found[shown],
        hands=pose.hands[shown],
        hands_found=pose.hands_found[shown],
    )
    if size is not None:
        pose = cropped(pose, size)
    body, hands = pose.body_found.any(axis=1), pose.hands_found.any(axis=2)
    if not (body.any() or hands.any()):
        where = f"in any frame of {len(pose)}"
        raise UserError(f"{clip.name}: no person was found {where}", "a pose needs one person, well in view")
    video.encode(_drawn(pose), out, fps or source_fps, crf=CRF)
    left, right = (int(count) for count in hands.sum(axis=0))
    return PoseVideo(out, len(pose), fps or source_fps, pose.size, int(body.sum()), left, right)


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
