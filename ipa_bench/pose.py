"""Pose maps: skeletons on black, as OpenPose and DWPose draw them; the driving signal of pose-conditioned video models.

One drawing for poses of every origin, so that a model that learns from rendered people can be driven by footage. The
conventions are OpenPose's: COCO-18 joints, limbs as ellipses at 60 % of their rainbow colour under full-colour joints,
each hand as 20 edges around the colour wheel under blue joints (DWPose's order of drawing). Widths are DWPose's in a
frame of 720 rows and shrink more slowly than the frame, so that fingers can be told apart in 128 rows.
"""

from __future__ import annotations

import colorsys
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.types import Bool, Float32, Float64, Observation, UInt8

BODY_JOINTS = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
#: pairs of body joints, in drawing order; limb i has colour i
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
#: RGB of the 18 joints, and of the limbs before they are dimmed
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
LIMB_INTENSITY = 0.6
#: pairs of hand joints: from the wrist along each finger
HAND_EDGES = tuple((0 if tip % 4 == 1 else tip - 1, tip) for tip in range(1, 21))
HAND_COLOURS = tuple(
    tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(edge / len(HAND_EDGES), 1.0, 1.0))
    for edge in range(len(HAND_EDGES))
)
HAND_JOINT_COLOUR = (0, 0, 255)

_LIMB_COLOURS = tuple(tuple(int(LIMB_INTENSITY * channel) for channel in colour) for colour in COLOURS)
#: width in pixels at 720 rows, and the power of the short side that it grows with
_LIMB_WIDTH = (8.0, 0.57)
_EDGE_WIDTH = (2.0, 0.25)
_HAND_JOINT_WIDTH = (8.0, 0.8)
#: corners of the polygon that stands for an ellipse
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
#: a joint farther outside than this many frames is an estimator's slip, and more than Pillow's integers should carry
_FAR = 4
#: of a face, over the distance of its ears and of its eyes
_FACE_HEIGHT = {"ear": 1.3, "eye": 2.6}
#: of a pose, as a track's file holds them
_ARRAYS = ("body", "body_found", "hands", "hands_found")


@dataclass(frozen=True, eq=False)
class Pose:
    """Body and hands of one person in every frame of a clip. Values that are not found are ignored and may be NaN.

    Raises ``ValueError`` for arrays of other shapes, or a size under 1x1.
    """

    #: float32 ``[T, 18, 2]``, pixels, x right, y down, (0, 0) the corner of the frame; joints as ``BODY_JOINTS``.
    #: Sides are the person's own.
    body: Float32
    #: bool ``[T, 18]``
    body_found: Bool
    #: float32 ``[T, 2, 21, 2]``, pixels; slot 0 the person's left hand, 1 the right; MediaPipe's joint order.
    hands: Float32
    #: bool ``[T, 2, 21]``
    hands_found: Bool
    #: (width, height) of the frame in pixels
    size: tuple[int, int]

    def __post_init__(self) -> None:
        count = len(self.body)
        shapes = {"body": (18, 2), "body_found": (18,), "hands": (2, 21, 2), "hands_found": (2, 21)}
        for name, shape in shapes.items():
            actual = getattr(self, name).shape
            if actual != (count, *shape):
                raise ValueError(f"{name} must have shape {[count, *shape]}, got {list(actual)}")
        _check_size(self.size)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.body)


def write_track(pose: Pose, fps: float, path: Path) -> None:
    """Store one person's pose over a clip as an ``.npz`` of the arrays of :class:`Pose` and ``fps``."""
    whole = {name: getattr(pose, name) for name in _ARRAYS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **whole, size=np.array(pose.size), fps=np.array(fps))
    write_atomic(path, buffer.getvalue())


def read_track(path: Path) -> tuple[Pose, float]:
    """A pose and its frames per second from an ``.npz`` with the arrays of :class:`Pose`, ``size`` and ``fps``.

    Raises :class:`UserError` for a file that is no such track; nothing in it is run.
    """
    try:
        if not zipfile.is_zipfile(path):  # numpy would advise to trust it
            raise ValueError("it is no .npz")
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name].astype(bool if name.endswith("found") else np.float32) for name in _ARRAYS}
            (width, height), fps = (int(side) for side in held["size"]), float(held["fps"])
        if not (len(arrays["body"]) and np.isfinite(fps) and fps > 0):
            raise ValueError("it has no frames, or no rate")
        return Pose(**arrays, size=(width, height)), fps
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        why = str(error).strip("'\"")
        arrays_ = ", ".join((*_ARRAYS, "size", "fps"))
        raise UserError(f"{path.name} is no pose track: {why}", f"write an .npz with {arrays_}") from None


def heads(tracks: Sequence[tuple[Pose, float]]) -> Observation:
    """Where the heads of several people are, by their pose tracks of one rate and size: for each frame of the shortest.

    ``found`` bool [T, K] and ``box`` float32 [T, K, 4] (left, top, width, height), px: about the nose, as high as the
    ears or the eyes say that a face is; ``times`` s, ``size``. Raises ``ValueError`` for tracks of different rates or
    sizes, or none.
    """
    if len({(pose.size, fps) for pose, fps in tracks}) != 1:
        raise ValueError("pose tracks of one clip have one size and one rate")
    count = min(len(pose) for pose, _ in tracks)
    found, boxes = zip(*(_head(pose) for pose, _ in tracks), strict=True)
    size, fps = tracks[0][0].size, tracks[0][1]
    whole = {"found": np.stack([each[:count] for each in found], 1), "box": np.stack([b[:count] for b in boxes], 1)}
    return Observation("poses@1", "", {**whole, "times": np.arange(count) / fps, "size": np.array(size)})


def _head(pose: Pose) -> tuple[Bool, Float32]:
    """Whether the head is there, [T], and its face's box, [T, 4]."""
    nose = BODY_JOINTS.index("nose")
    wide = np.zeros(len(pose), np.float32)
    for part, share in _FACE_HEIGHT.items():
        left, right = (BODY_JOINTS.index(f"{side}_{part}") for side in ("left", "right"))
        both = pose.body_found[:, left] & pose.body_found[:, right]
        away = share * np.linalg.norm(pose.body[:, left] - pose.body[:, right], axis=1)
        wide = np.where(both, np.maximum(wide, away), wide)
    found = pose.body_found[:, nose] & (wide > 0)
    middle = np.where(found[:, None], pose.body[:, nose], 0)
    box = np.concatenate([middle - wide[:, None] / 2, np.repeat(wide[:, None], 2, 1)], 1)
    return np.asarray(found, bool), np.where(found[:, None], box, 0).astype(np.float32)


def at(pose: Pose, moments: Sequence[int]) -> Pose:
    """The pose in these frames alone."""
    index = list(moments)
    return replace(
        pose,
        body=pose.body[index],
        body_found=pose.body_found[index],
        hands=pose.hands[index],
        hands_found=pose.hands_found[index],
    )


def inside(pose: Pose) -> Pose:
    """The pose without the joints outside its frame: what an estimator could have seen of it."""
    limits = np.array(pose.size, np.float32)
    # NaN compares false
    body, hands = (np.all((points >= 0) & (points < limits), axis=-1) for points in (pose.body, pose.hands))
    return replace(pose, body_found=pose.body_found & body, hands_found=pose.hands_found & hands)


def cropped(pose: Pose, size: tuple[int, int]) -> Pose:
    """The pose in a frame of ``size`` (width, height), scaled until the frame just covers it and cut about the centre.

    The same mapping as ``crop`` in :func:`ipa_bench.video.resize`. Joints outside count as not found. Raises
    ``ValueError`` for a size under 1x1.
    """
    _check_size(size)
    scale = max(size[0] / pose.size[0], size[1] / pose.size[1])
    shift = (np.array(size) - scale * np.array(pose.size)) / 2
    body, hands = ((points * scale + shift).astype(np.float32) for points in (pose.body, pose.hands))
    return inside(replace(pose, body=body, hands=hands, size=size))


def draw(pose: Pose, size: tuple[int, int] | None = None) -> UInt8:
    """The pose map of every frame: uint8 ``[T, H, W, 3]`` RGB, antialiased, the same on every call.

    ``size`` (width, height) in pixels, by default the pose's own; x and y are scaled separately, so another aspect
    ratio stretches. Line widths follow ``size`` alone. Raises ``ValueError`` for a size under 1x1.
    """
    width, height = size or pose.size
    _check_size((width, height))
    scale = np.array([width / pose.size[0], height / pose.size[1]], np.float32)
    frames = np.zeros((len(pose), height, width, 3), np.uint8)
    for index in range(len(pose)):
        frames[index] = draw_frame(
            pose.body[index] * scale,
            pose.body_found[index],
            pose.hands[index] * scale,
            pose.hands_found[index],
            (width, height),
        )
    return frames


def draw_frame(body: Float32, body_found: Bool, hands: Float32, hands_found: Bool, size: tuple[int, int]) -> UInt8:
    """The pose map of one frame: uint8 ``[height, width, 3]`` RGB.

    ``body`` float32 ``[18, 2]`` and ``hands`` float32 ``[2, 21, 2]`` in pixels of a frame of ``size`` (width, height);
    ``body_found`` bool ``[18]``, ``hands_found`` bool ``[2, 21]``. A line needs both its ends; one that leaves the
    frame is drawn up to its border. Joints that are not finite, or more than four frames away, count as not found.
    """
    return _drawn(((body, body_found, hands, hands_found),), size)


def draw_group(poses: Sequence[Pose]) -> UInt8:
    """One pose map of several people, each drawn over those before: uint8 ``[T, H, W, 3]`` RGB.

    Raises ``ValueError`` for poses of different lengths or sizes, or none.
    """
    if len({(len(pose), pose.size) for pose in poses}) != 1:
        raise ValueError("poses of one clip have one length and one size")
    size, count = poses[0].size, len(poses[0])
    frames = np.zeros((count, size[1], size[0], 3), np.uint8)
    for t in range(count):
        frames[t] = _drawn([(p.body[t], p.body_found[t], p.hands[t], p.hands_found[t]) for p in poses], size)
    return frames


def _drawn(people: Iterable[tuple[Float32, Bool, Float32, Bool]], size: tuple[int, int]) -> UInt8:
    """One frame of the people's body, what of it is found, hands, and what of them is found."""
    _check_size(size)
    short = min(size)
    factor = _oversampling(short)
    image = Image.new("RGB", (size[0] * factor, size[1] * factor))
    canvas = ImageDraw.Draw(image)
    limb, edge, dot = (factor * _width(rule, short) for rule in (_LIMB_WIDTH, _EDGE_WIDTH, _HAND_JOINT_WIDTH))
    for body, body_found, hands, hands_found in people:
        points, found = _placed(body, body_found, size, factor)
        _draw_limbs(canvas, points, found, limb)
        _draw_joints(canvas, points, found, COLOURS, limb)
        for hand, hand_found in zip(hands, hands_found, strict=True):
            points, found = _placed(hand, hand_found, size, factor)
            if found.any():
                _draw_edges(canvas, points, found, edge)
                _draw_joints(canvas, points, found, (HAND_JOINT_COLOUR,) * 21, dot)
    return np.asarray(image.reduce(factor) if factor > 1 else image)


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise ValueError(f"size must be at least 1x1, got {size[0]}x{size[1]}")


def _width(rule: tuple[float, float], short: int) -> float:
    """Pixels of a line in a frame whose short side is ``short``."""
    at_720, power = rule
    return float(at_720 * (short / 720) ** power)


def _oversampling(short: int) -> int:
    """Lines are drawn this many times larger, then averaged: thin ones need it most, large frames cost most."""
    return 4 if short <= 256 else 2 if short <= 1080 else 1


def _placed(points: Float32, found: Bool, size: tuple[int, int], factor: int) -> tuple[Float64, Bool]:
    """Joints ``[N, 2]`` on the oversampled canvas, where integers are pixel centres, and which of them count."""
    limits = np.array(size, np.float64)
    placed: Float64 = np.where(found[:, None], points, np.nan).astype(np.float64)
    # NaN compares false
    kept: Bool = np.all((placed > -_FAR * limits) & (placed < (_FAR + 1) * limits), axis=1)
    return np.where(kept[:, None], placed * factor - 0.5, 0.0), kept


def _draw_limbs(canvas: ImageDraw.ImageDraw, points: Float64, found: Bool, width: float) -> None:
    """Ellipses whose long axis joins two joints and whose short axis is ``width``."""
    ends = np.array(LIMBS)
    a, b = points[ends[:, 0]], points[ends[:, 1]]
    middle, half = (a + b) / 2, (b - a) / 2
    length = np.maximum(np.hypot(half[:, 0], half[:, 1]), 1e-6)[:, None]
    across = np.stack([-half[:, 1], half[:, 0]], axis=1) / length * (width / 2)
    cos, sin = np.cos(_ANGLES)[:, None], np.sin(_ANGLES)[:, None]
    outlines = middle[:, None] + cos * half[:, None] + sin * across[:, None]
    for index in np.flatnonzero(found[ends].all(axis=1)):
        canvas.polygon(outlines[index].ravel().tolist(), fill=_LIMB_COLOURS[index])


def _draw_edges(canvas: ImageDraw.ImageDraw, points: Float64, found: Bool, width: float) -> None:
    pixels = max(round(width), 1)
    for (a, b), colour in zip(HAND_EDGES, HAND_COLOURS, strict=True):
        if found[a] and found[b]:
            canvas.line((*points[a].tolist(), *points[b].tolist()), fill=colour, width=pixels)


def _draw_joints(
    canvas: ImageDraw.ImageDraw, points: Float64, found: Bool, colours: tuple[tuple[int, ...], ...], width: float
) -> None:
    low, high = (points - width / 2).tolist(), (points + width / 2).tolist()
    for index in np.flatnonzero(found):
        canvas.ellipse((*low[index], *high[index]), fill=colours[index])
