"""Hands to edit: photographs of digit signs, clips, renderings. Each as a canvas, with the fingers that stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import label, zoom

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.embedded import world
from ipa_bench.errors import UserError
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.mediapipe.litert import Roi, warp
from ipa_bench.observers.mediapipe.palm import HandNet, landmark_roi
from ipa_bench.types import Float32, Float64
from trainers.fingers.shapes import CHAINS, Hand, over, waves

#: side of a canvas in px, and how many times as wide as the net's region it is
CANVAS, WIDER = 256, 1.35
#: fingers that stand in the signs of the digits 0 to 9 (thumb 0, little finger 4)
SIGNS = ((), (1,), (1, 2), (0, 1, 2), (1, 2, 3, 4), (0, 1, 2, 3, 4), (1, 2, 3), (1, 2, 4), (1, 3, 4), (2, 3, 4))
#: people of the photographs, by their place in the order of files of a sign: held out, and left out on both sides of
#: them, since the order of people may slip
HELD_OUT, MARGIN = range(80, 130), 4
#: a photograph of which the net is less sure is left out
LEAST_PRESENCE = 0.9
#: a finger stands whose ends are at least this share of its length apart
STRAIGHT = 0.93
#: of the train split of the built-in world
FIRST = 2_000_000
#: share of photographs that get other surroundings
ELSEWHERE = 0.5


@dataclass(frozen=True, eq=False)
class Source:
    """One well-formed hand."""

    #: what it was cut from: ``digits``, or a clip's name
    origin: str
    #: of the photograph or the frame, for random draws
    number: int
    held_out: bool
    hand: Hand
    standing: tuple[int, ...]
    #: fingers that are seen, where somebody knows
    count: float | None


def canvas_of(image: Image.Image, landmarks: Float32) -> Hand:
    """The surroundings of a hand with these joints ``[21, 2]`` in px of an image, turned as the net has it."""
    roi = landmark_roi(landmarks)
    wide = Roi(roi.x, roi.y, roi.side * WIDER, roi.rotation)
    pixels = np.asarray(np.rint(warp(image, wide, CANVAS, extend=True) * 255), np.uint8)
    cos, sin = np.cos(roi.rotation), np.sin(roi.rotation)
    away = landmarks - np.array([roi.x, roi.y])
    local = np.stack([away @ [cos, sin], away @ [-sin, cos]], -1) / wide.side
    return Hand(pixels, ((local + 0.5) * CANVAS).astype(np.float32))


def photographs(folder: Path, most: int | None = None) -> Iterator[Source]:
    """The signs in ``folder/0`` to ``folder/9``, ``most`` of each. Raises UserError where there are none."""
    net = HandNet()
    for sign, standing in enumerate(SIGNS):
        files = sorted((folder / str(sign)).glob("*.JPG"))
        if not files:
            raise UserError(f"no photographs in {folder / str(sign)}", "give the folder that holds 0 to 9")
        for rank in range(0, len(files), max(len(files) // most, 1) if most else 1):
            margin = rank in range(HELD_OUT.start - MARGIN, HELD_OUT.stop + MARGIN) and rank not in HELD_OUT
            if margin:
                continue
            with Image.open(files[rank]) as opened:
                image = opened.convert("RGB")
            looks = [net.hand(image, palm) for palm in net.palms(image)]
            best = max(looks, key=lambda hand: hand.presence, default=None)
            if best is None or best.presence <= LEAST_PRESENCE:
                continue
            number = 1000 * sign + rank
            hand = canvas_of(image, best.landmarks)
            rng = np.random.default_rng([number, 1])
            if rng.random() < ELSEWHERE:
                hand = replace_surroundings(hand, rng)
            yield Source("digits", number, rank in HELD_OUT, hand, standing, float(len(standing)))


def replace_surroundings(hand: Hand, rng: np.random.Generator) -> Hand:
    """The hand, cut out by its colour, before invented surroundings; as it is where it does not stand out."""
    skin = _skin(hand)
    if skin is None:
        return hand
    return Hand(np.clip(over(_invented(rng), hand.pixels, skin), 0, 255).astype(np.uint8), hand.points)


def _skin(hand: Hand) -> Float32 | None:
    """1 where the colour is the hand's (red against luma, Otsu's threshold), of the piece that holds the palm."""
    luma = hand.pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    red = hand.pixels[..., 0] - luma
    inside, outside = red[hand.palm > 0.9], red[hand.mask < 0.1]
    if not len(inside) or not len(outside) or np.median(inside) - np.median(outside) < 8:
        return None
    pieces, _ = label(red > (np.median(inside) + np.median(outside)) / 2)
    x, y = np.clip(hand.points[[0, 5, 9, 17]].mean(axis=0).round().astype(int), 0, CANVAS - 1)
    if not pieces[y, x]:
        return None
    whole = (pieces == pieces[y, x]).astype(np.uint8) * 255
    shape = Image.fromarray(whole).filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(np.asarray(shape, np.float32) / 255, np.float32)


def _invented(rng: np.random.Generator) -> Float32:
    """Smooth colour at three scales, and some flat boxes."""
    base = rng.uniform(20, 235, 3)
    result = np.full((CANVAS, CANVAS, 3), base, np.float32)
    for cells in (2, 6, 20):
        tint = rng.normal(0, 1, (2, 3)) * rng.uniform(3, 22)
        result += np.tensordot(waves(CANVAS, cells, rng), tint, axes=(0, 0)).astype(np.float32)
    for _ in range(int(rng.integers(0, 7))):
        x0, y0 = rng.integers(0, CANVAS, 2)
        width, height = rng.integers(8, CANVAS // 2, 2)
        result[y0 : y0 + height, x0 : x0 + width] = rng.uniform(0, 255, 3)
    grain = zoom(rng.normal(0, rng.uniform(0, 12), (CANVAS // 2, CANVAS // 2)), 2, order=1)
    return np.asarray(result + grain[..., None], np.float32)


def frames(path: Path, cache: Cache, step: int = 4) -> Iterator[Source]:
    """The hands of every ``step``-th frame of a clip. Raises Unscorable where it does not decode."""
    hands = Looker(cache).hands(path)
    for index, frame in enumerate(video.read_frames(path)):
        if index % step:
            continue
        image = Image.fromarray(np.ascontiguousarray(frame.image))
        for slot in np.flatnonzero(hands.found[index]):
            hand = canvas_of(image, hands.landmarks[index, slot])
            standing = standing_in(hands.world[index, slot].astype(np.float64))
            yield Source(path.stem, 2 * index + int(slot), False, hand, standing, None)


def renderings(people: int) -> Iterator[Source]:
    """Both hands of people of the built-in world whom nothing else shows, each at a random moment."""
    for identity in range(people):
        moment = int(np.random.default_rng([identity, 13]).integers(world.FRAMES))
        clip = world.clip("train", FIRST + identity, 0, moments=[moment])
        image = Image.fromarray(clip.frames[0])
        for slot in np.flatnonzero(clip.visible[moment]):
            joints = clip.joints[moment, slot]
            hand = canvas_of(image, joints[:, :2])
            standing = standing_in(joints.astype(np.float64))
            yield Source("rendered", 2 * identity + int(slot), False, hand, standing, None)


def standing_in(joints: Float64) -> tuple[int, ...]:
    """The fingers that are straight, of joints ``[21, 3]``."""
    chains = joints[CHAINS]
    bones = np.linalg.norm(np.diff(chains, axis=1), axis=-1).sum(axis=1)
    apart = np.linalg.norm(chains[:, -1] - chains[:, 0], axis=-1)
    return tuple(int(f) for f in np.flatnonzero(apart >= STRAIGHT * bones))
