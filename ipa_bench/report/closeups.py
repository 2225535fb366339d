"""Close-ups of the hands at full resolution: what a player of 640 pixels cannot show.

One camera a case follows the hands of the driving video, in shares of the frame, so that all videos of the case show
the same place at the same time. The pictures are cut from the videos themselves, not from their copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.files import located
from ipa_bench.report.media import MAX_FPS, Progress, each
from ipa_bench.report.view import ReportView
from ipa_bench.store import Details, Unit
from ipa_bench.types import Bool, Float32, Float64, UInt8

#: side of a close-up in px, where the video has more or fewer
LEAST_SIDE, MOST_SIDE = 192, 512
#: of the square that is cut, in hands; and how far the camera's place is averaged, s
ROOM = 1.8
REACH = 0.25


@dataclass(frozen=True)
class Camera:
    """Where to look, one square for each hand that is ever seen."""

    #: 0 the left hand, 1 the right one, from left to right as the close-up shows them
    slots: tuple[int, ...]
    #: seconds from the first frame, ``N`` of them
    times: tuple[float, ...]
    #: for each slot, x and y of the square's centre at each time, in [0, 1] of width and height
    centres: tuple[tuple[tuple[float, float], ...], ...]
    #: the squares' side, in heights of the frame
    side: float

    def at(self, time: float) -> list[tuple[float, float]]:
        """The centres on screen at ``time``, one for each slot."""
        place = max(0, int(np.searchsorted(self.times, time + 1e-3, side="right")) - 1)
        return [path[place] for path in self.centres]


@dataclass(frozen=True)
class Closeup:
    """A playable close-up in the media folder: the camera's squares side by side."""

    name: str
    #: px of one square
    side: int
    slots: tuple[int, ...]


#: video and camera -> close-up, or the reason why there is none
Closeups = Mapping[tuple[Path, Camera], Closeup | str]


def make_closeups(
    view: ReportView, folder: Path, media: Path, *, jobs: int, progress: Progress | None = None
) -> Closeups:
    """The close-ups of every video of the run whose hands are known, in the folder ``media``; old ones are kept."""
    media.mkdir(parents=True, exist_ok=True)
    wanted = list(dict.fromkeys(_wanted(view, folder)))
    made = each(_make, [(path, camera, media) for path, camera in wanted], jobs, progress)
    return dict(zip(wanted, made, strict=True))


def _wanted(view: ReportView, folder: Path) -> Iterator[tuple[Path, Camera]]:
    cases = {case.id: case for case in view.header.cases}
    cameras = case_cameras(view)
    for unit, record in view.units():
        camera = cameras.get(unit)
        if camera is None or record is None:
            continue
        case = cases[unit[0]]
        for text in (case.driving, case.ground_truth, record.video):
            path = located(text, folder)
            if path is not None and path.is_file():
                yield path, camera


def case_cameras(view: ReportView) -> dict[Unit, Camera]:
    """The camera of each video: its case's, of the driving hands; of its own hands where the case has none."""
    of_case: dict[str, Camera | None] = {}
    found = {}
    for unit, record in view.units():
        details = view.details(unit) if record is not None and record.video else None
        if details is None:
            continue
        if of_case.get(unit[0]) is None and details.driving_landmarks is not None:
            assert details.driving_found is not None
            of_case[unit[0]] = camera_of(details, details.driving_landmarks, details.driving_found)
        camera = of_case.get(unit[0])
        if camera is None and details.driving_landmarks is None:
            camera = camera_of(details, details.generated_landmarks, details.generated_found)
        if camera is not None:
            found[unit] = camera
    return found


def camera_of(details: Details, landmarks: Float32, found: Bool) -> Camera | None:
    """A camera on hands ``[T, 2, 21, 2]`` that are there in ``found`` ``[T, 2]``; None where no hand ever is.

    While a hand is not seen the camera moves evenly to where it is seen next.
    """
    usable = found & np.isfinite(landmarks).all(axis=(2, 3))
    seen = [int(slot) for slot in np.flatnonzero(usable.any(axis=0))]
    # in the order in which they are mostly seen on screen
    slots = tuple(sorted(seen, key=lambda slot: float(landmarks[usable[:, slot], slot, :, 0].mean())))
    if not slots:
        return None
    aspect = details.size[0] / details.size[1]
    extent = np.ptp(landmarks, axis=2) * (aspect, 1.0)
    side = ROOM * float(np.percentile(extent[usable].max(axis=-1), 90))
    times = details.times
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    paths = [_path(landmarks[:, slot], usable[:, slot], times, max(0, round(REACH / step))) for slot in slots]
    return Camera(
        slots,
        tuple(round(float(time), 4) for time in times),
        tuple(tuple((round(float(x), 4), round(float(y), 4)) for x, y in path) for path in paths),
        round(min(max(side, 0.08), 1.0), 4),
    )


def _path(hand: Float32, there: Bool, times: Float64, reach: int) -> Float64:
    """Centres ``[T, 2]`` of a hand ``[T, 21, 2]``, averaged over ``reach`` frames to both sides."""
    boxes = (hand[there].min(axis=1) + hand[there].max(axis=1)) / 2
    whole = np.stack([np.interp(times, times[there], boxes[:, axis]) for axis in (0, 1)], axis=1)
    padded = np.pad(whole, ((reach, reach), (0, 0)), mode="edge")
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in (0, 1)], axis=1)


def _make(work: tuple[Path, Camera, Path]) -> Closeup | str:
    source, camera, media = work
    info = video.probe(source)
    # what the camera sees in this video's own pixels: no more of them, and no fewer
    side = 2 * round(min(max(camera.side * info.height, LEAST_SIDE), MOST_SIDE) / 2)
    key = hashlib.sha256(repr((video.file_sha256(source), camera, side)).encode()).hexdigest()
    closeup = Closeup(f"{key[:32]}.mp4", side, camera.slots)
    target = media / closeup.name
    if not target.exists():
        fps = min(info.fps, MAX_FPS)
        frames, _ = video.read_at(source, fps)
        pictures = (_squares(image, camera, index / fps, side) for index, image in enumerate(frames))
        video.encode(pictures, target, fps, crf=16, preset="veryfast")
    return closeup


def _squares(image: UInt8, camera: Camera, time: float, side: int) -> UInt8:
    """What the camera sees of a frame at ``time``, uint8 ``[side, side * slots, 3]``."""
    return np.concatenate([square(image, centre, camera.side, side) for centre in camera.at(time)], axis=1)


def square(image: UInt8, centre: tuple[float, float], share: float, side: int) -> UInt8:
    """A square of ``share`` heights of the frame about a point, inside the frame where it fits, as ``side`` px."""
    height, width = image.shape[:2]
    length = share * height
    middle = [
        min(max(place * size, length / 2), size - length / 2) if length <= size else size / 2
        for place, size in zip(centre, (width, height), strict=True)
    ]
    left, top = (round(place - length / 2) for place in middle)
    cut = Image.fromarray(image).crop((left, top, left + round(length), top + round(length)))
    way = Image.Resampling.LANCZOS if side < length else Image.Resampling.BICUBIC
    return np.asarray(cut if cut.size == (side, side) else cut.resize((side, side), way))
