"""What a person and a scene look like: a frozen description drawn from a random generator."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from ipa_bench.types import Float64

Colour = tuple[float, float, float]

SKIN: tuple[Colour, ...] = (
    (0.98, 0.85, 0.76), (0.95, 0.79, 0.68), (0.91, 0.73, 0.60), (0.85, 0.65, 0.50),
    (0.76, 0.56, 0.42), (0.65, 0.46, 0.34), (0.54, 0.37, 0.27), (0.44, 0.30, 0.22),
)  # fmt: skip
HAIR: tuple[Colour, ...] = (
    (0.08, 0.06, 0.05), (0.16, 0.10, 0.07), (0.30, 0.18, 0.10), (0.45, 0.28, 0.14),
    (0.72, 0.55, 0.30), (0.88, 0.76, 0.50), (0.55, 0.20, 0.10), (0.62, 0.62, 0.64),
)  # fmt: skip
HAIR_STYLES = ("short", "long", "bun", "side", "bald")
SHIRTS = ("plain", "stripes", "bars", "jacket")


@dataclass(frozen=True)
class Person:
    """One identity. Lengths in pixels of the 128-pixel world, colours RGB in [0, 1]."""

    skin: Colour
    hair: Colour
    hair_style: str
    shirt: str
    cloth: Colour
    trim: Colour
    #: where the sleeve ends, as a share of the way from wrist to elbow
    cuff: float
    glasses: bool
    #: half the distance of the shoulders
    shoulders: float
    #: (half width, half height) of the head
    head: tuple[float, float]
    #: length of the upper arm and of the forearm
    arm: tuple[float, float]
    #: pixels for one palm unit (``hand.joints``)
    palm: float
    #: half width of the torso at the waist
    waist: float


@dataclass(frozen=True)
class Scene:
    """Light, and the seed of the wall behind."""

    #: unit vector toward the light: x right, y down, z toward the viewer
    light: Colour
    ambient: float
    wall: Colour
    accent: Colour
    texture: str
    seed: int


TEXTURES = ("blobs", "panels", "bricks", "gradient")


def _hsv(h: float, s: float, v: float) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(h, s, v)
    return (r, g, b)


def _near(rng: np.random.Generator, colour: Colour, size: float) -> Colour:
    """``colour`` a little lighter or darker, and a little warmer or cooler."""
    shift: Float64 = rng.normal(0, size) + rng.normal(0, size / 3, 3)
    r, g, b = np.clip(np.array(colour) + shift, 0.03, 1)
    return (float(r), float(g), float(b))


def person(rng: np.random.Generator) -> Person:
    """A random identity."""
    cloth = _hsv(rng.random(), rng.uniform(0.15, 0.85), rng.uniform(0.25, 0.9))
    width = rng.uniform(11.5, 13.5)
    return Person(
        skin=_near(rng, SKIN[rng.integers(len(SKIN))], 0.02),
        hair=_near(rng, HAIR[rng.integers(len(HAIR))], 0.02),
        hair_style=str(rng.choice(HAIR_STYLES, p=(0.3, 0.25, 0.15, 0.2, 0.1))),
        shirt=str(rng.choice(SHIRTS, p=(0.4, 0.2, 0.2, 0.2))),
        cloth=cloth,
        trim=_hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.95)),
        cuff=0.28 if rng.random() < 0.6 else 0.5,
        glasses=bool(rng.random() < 0.2),
        shoulders=rng.uniform(22, 27),
        head=(width, width * rng.uniform(1.2, 1.35)),
        arm=(rng.uniform(32, 36), rng.uniform(30, 33)),
        palm=rng.uniform(22.5, 25.0),
        waist=rng.uniform(17, 23),
    )


def scene(rng: np.random.Generator) -> Scene:
    """A random place and light."""
    x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.7, -0.2)
    light = np.array([x, y, 1.0]) / np.linalg.norm([x, y, 1.0])
    hue = rng.random()
    value = rng.uniform(0.35, 0.85)
    return Scene(
        light=(float(light[0]), float(light[1]), float(light[2])),
        ambient=rng.uniform(0.38, 0.52),
        wall=_hsv(hue, rng.uniform(0.05, 0.45), value),
        accent=_hsv((hue + rng.uniform(-0.15, 0.15)) % 1, rng.uniform(0.05, 0.5), value * rng.uniform(0.7, 0.9)),
        texture=str(rng.choice(TEXTURES)),
        seed=int(rng.integers(2**31)),
    )
