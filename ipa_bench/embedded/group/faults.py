"""What goes wrong with who is who, made on the description of a clip: no seams, known amounts.

A fault is a pure function setting → setting with a strength and a seed. A family is trained on by its first kinds and
tried on its held-out twins; nuisances change a clip and leave everybody who they are: a judge of people must call them
ties. Those that move people change the poses too, so a clip with one stands beside the poses of its own setting.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ipa_bench.embedded import people as look
from ipa_bench.embedded.group.setting import Setting, moved
from ipa_bench.embedded.group.shot import dressed
from ipa_bench.embedded.people import Colour, Person
from ipa_bench.embedded.rig import ARRAYS, rig
from ipa_bench.errors import UserError
from ipa_bench.types import Float64

Strength = Literal["mild", "medium", "strong"]
STRENGTHS: tuple[Strength, ...] = ("mild", "medium", "strong")
Family = Literal["swap", "blend", "leak", "duplicate", "drift", "nuisance"]
#: what of a person is the head's, what the torso's; hands have the skin of the head
HEAD = ("skin", "hair", "hair_style", "glasses", "head")
TORSO = ("shirt", "cloth", "trim", "cuff", "shoulders", "waist")
COLOURS = ("skin", "hair", "cloth", "trim")
SHAPES = ("head", "shoulders", "waist")
#: frames that an exchange fades over
FADE = 6

#: (setting, level, generator) -> setting
Change = Callable[[Setting, float, np.random.Generator], Setting]
#: (what slot k looks like, frame) -> what it looks like
Look = Callable[[Person, int], Person]


@dataclass(frozen=True)
class Fault:
    """A line of the table."""

    name: str
    family: Family
    change: Change
    #: of mild, medium, strong; what it measures is the change's own
    levels: tuple[float, float, float]
    held_out: bool = False
    #: whether people are elsewhere than before
    moves: bool = False


def faulty(setting: Setting, fault: Fault, strength: Strength, seed: int = 0) -> Setting:
    """The setting with a fault; the same for the same arguments."""
    rng = np.random.default_rng([seed, zlib.crc32(fault.name.encode())])
    return fault.change(setting, fault.levels[STRENGTHS.index(strength)], rng)


# ---------------------------------------------------------------------------------------------------------------------
# looks


def mixed(a: Person, b: Person, share: float, fields: Sequence[str]) -> Person:
    """``a`` with ``share`` of ``b`` in the colours and lengths named; a word is ``b``'s from a half on."""
    found: dict[str, Any] = {}
    for name in fields:
        one, other = getattr(a, name), getattr(b, name)
        if isinstance(one, tuple):
            found[name] = tuple(x + (y - x) * share for x, y in zip(one, other, strict=True))
        elif isinstance(one, float):
            found[name] = one + (other - one) * share
        else:
            found[name] = other if share >= 0.5 else one
    return replace(a, **found)


def _pair(setting: Setting, rng: np.random.Generator) -> tuple[int, int]:
    """Somebody, and somebody else."""
    one, other = rng.choice(setting.count, 2, replace=False)
    return int(one), int(other)


def _with(setting: Setting, changes: dict[int, Look]) -> Setting:
    """The setting with some slots' looks changed."""
    looks = tuple(
        tuple(changes[slot](person, t) if slot in changes else person for slot, person in enumerate(frame))
        for t, frame in enumerate(setting.looks)
    )
    return replace(setting, looks=looks)


def _exchanged(
    setting: Setting, pair: tuple[int, int], share: Callable[[int], float], fields: Sequence[str]
) -> Setting:
    """Two people exchange what is named, by a share of each frame."""
    one, other = pair
    both = setting.people[one], setting.people[other]
    changes: dict[int, Look] = {
        one: lambda own, t: mixed(own, both[1], share(t), fields),
        other: lambda own, t: mixed(own, both[0], share(t), fields),
    }
    return _with(setting, changes)


def _late(setting: Setting, share: float) -> Callable[[int], float]:
    """1 in the last ``share`` of the frames, 0 before."""
    first = round(len(setting) * (1 - share))
    return lambda t: float(t >= first)


_WHOLE = (*HEAD, *TORSO)


def _swap(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    return _exchanged(setting, _pair(setting, rng), _late(setting, level), _WHOLE)


def _swap_fade(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    middle = len(setting) * (1 - level)
    return _exchanged(setting, _pair(setting, rng), lambda t: float(np.clip((t - middle) / FADE + 0.5, 0, 1)), _WHOLE)


def _swap_met(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    """From the frame in which two neighbours are nearest to each other, for ``level`` of what follows."""
    one = int(rng.integers(setting.count - 1))
    pair = (one, one + 1)
    near = np.abs(setting.rigs[one].chest[:, 0] - setting.rigs[one + 1].chest[:, 0])
    first = min(int(np.argmin(near)), len(setting) - 4)
    last = first + max(round((len(setting) - first) * level), 3)
    return _exchanged(setting, pair, lambda t: float(first <= t < last), _WHOLE)


def _swap_back(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    count = len(setting)
    reach = level * count / 2
    return _exchanged(setting, _pair(setting, rng), lambda t: float(abs(t + 0.5 - count / 2) < reach), _WHOLE)


def _swap_heads(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    return _exchanged(setting, _pair(setting, rng), _late(setting, level), HEAD)


def _blended(fields: Sequence[str]) -> Change:
    def change(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
        one, other = _pair(setting, rng)
        return _with(setting, {one: lambda own, _: mixed(own, setting.people[other], level, fields)})

    return change


def _blend_part(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    fields = ("skin", "hair") if rng.random() < 0.5 else ("cloth", "trim")
    return _blended(fields)(setting, level, rng)


def _leak(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    one, other = _pair(setting, rng)
    late = _late(setting, level)
    fields = ("shirt", "cloth", "trim", "cuff")
    return _with(setting, {one: lambda own, t: mixed(own, setting.people[other], late(t), fields)})


def _leak_other(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    """Hair, skin or glasses; glasses where one of the two wears them."""
    one, other = _pair(setting, rng)
    late = _late(setting, level)
    kinds = [("hair", "hair_style"), ("skin",)]
    if setting.people[one].glasses != setting.people[other].glasses:
        kinds.append(("glasses",))
    fields = kinds[int(rng.integers(len(kinds)))]
    return _with(setting, {one: lambda own, t: mixed(own, setting.people[other], late(t), fields)})


def _duplicate(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    one, other = _pair(setting, rng)
    late = _late(setting, level)
    return _with(setting, {one: lambda own, t: dressed(own, setting.people[other]) if late(t) else own})


def _stranger(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    one, _ = _pair(setting, rng)
    late, third = _late(setting, level), look.person(rng)
    return _with(setting, {one: lambda own, t: dressed(own, third) if late(t) else own})


def _twice(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    """A second body of somebody between the others, or beside; ``level``: 0 behind all, 1 before all."""
    one, _ = _pair(setting, rng)
    places = np.sort([body.chest[:, 0].mean() for body in setting.rigs])
    middle = float(places[:2].mean())
    body = moved(setting.rigs[one], np.full(len(setting), middle - setting.rigs[one].chest[:, 0].mean()))
    at = round(level * setting.count)
    order = (*setting.order[:at], len(setting.rigs), *setting.order[at:])
    looks = tuple((*frame, setting.people[one]) for frame in setting.looks)
    return replace(setting, looks=looks, rigs=(*setting.rigs, body), order=order)


def _drifting(fields: Sequence[str], course: Callable[[Float64], Float64]) -> Change:
    """Somebody becomes somebody else to a share that grows to ``level`` as ``course`` of the time from 0 to 1 does."""

    def change(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
        one, other = _pair(setting, rng)
        shares = level * course(np.linspace(0, 1, len(setting)))
        return _with(setting, {one: lambda own, t: mixed(own, setting.people[other], float(shares[t]), fields)})

    return change


# ---------------------------------------------------------------------------------------------------------------------
# nuisances


def _light(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    first = setting.scenes[0]
    light = np.array(first.light) + level * np.array([rng.choice([-1, 1]), rng.uniform(-0.3, 0.3), 0])
    x, y, z = light / np.linalg.norm(light)
    ambient = float(np.clip(first.ambient + 0.15 * level * rng.choice([-1, 1]), 0.3, 0.6))
    return replace(setting, scenes=tuple(replace(s, light=(x, y, z), ambient=ambient) for s in setting.scenes))


def _wall(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    other = look.scene(rng)

    def toward(a: Colour, b: Colour) -> Colour:
        r, g, blue = (x + (y - x) * level for x, y in zip(a, b, strict=True))
        return (r, g, blue)

    scenes = tuple(
        replace(s, wall=toward(s.wall, other.wall), accent=toward(s.accent, other.accent), seed=other.seed)
        for s in setting.scenes
    )
    return replace(setting, scenes=scenes)


def _flicker(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    noise = level * rng.uniform(-1, 1, len(setting))
    scenes = [
        replace(s, ambient=float(np.clip(s.ambient + n, 0.25, 0.7))) for s, n in zip(setting.scenes, noise, strict=True)
    ]
    return replace(setting, scenes=tuple(scenes))


def _blur(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    return replace(setting, lens=replace(setting.lens, blur=level))


def _scale(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    return replace(setting, lens=replace(setting.lens, zoom=level))


def _coded(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    return replace(setting, lens=replace(setting.lens, crf=round(level)))


def _gesture(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    """Other gestures in the last ``level`` of the frames: all of them, or a cut."""
    times = np.arange(len(setting)) / setting.fps
    first = round(len(setting) * (1 - level))
    rigs = []
    for person, old in zip(setting.people, setting.rigs, strict=False):
        new = rig(rng, person, times, False)
        new = moved(new, old.chest[:, 0] - new.chest[:, 0])
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(old, name)[:first], getattr(new, name)[first:]]) for name in ARRAYS
        }
        rigs.append(replace(new, **joined))
    return replace(setting, rigs=tuple(rigs))


def _crossing(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    """Two neighbours go ``level`` of the way to each other's place, past each other where that is 1."""
    one = int(rng.integers(setting.count - 1))
    rigs = list(setting.rigs)
    left, right = (rigs[slot].chest[:, 0] for slot in (one, one + 1))
    step = level * (right[0] - left[0]) * np.linspace(0, 1, len(setting))
    rigs[one] = moved(rigs[one], left[0] + step - left)
    rigs[one + 1] = moved(rigs[one + 1], right[0] - step - right)
    return replace(setting, rigs=tuple(rigs))


def _mirrored(setting: Setting, level: float, rng: np.random.Generator) -> Setting:
    """People stand in each other's places from the first frame on, their gestures with them."""
    middles = [body.chest[:, 0].mean() for body in setting.rigs]
    wanted = middles[::-1]
    rigs = [moved(body, np.full(len(setting), w - m)) for body, w, m in zip(setting.rigs, wanted, middles, strict=True)]
    return replace(setting, rigs=tuple(rigs))


_SHARES, _ALPHAS = (0.25, 0.5, 0.75), (0.3, 0.5, 0.7)
FAULTS: tuple[Fault, ...] = (
    Fault("swap", "swap", _swap, _SHARES),
    Fault("swap_fade", "swap", _swap_fade, _SHARES, held_out=True),
    Fault("swap_met", "swap", _swap_met, (0.4, 0.7, 1.0), held_out=True),
    Fault("swap_back", "swap", _swap_back, _SHARES, held_out=True),
    Fault("swap_heads", "swap", _swap_heads, _SHARES, held_out=True),
    Fault("blend", "blend", _blended(COLOURS), _ALPHAS),
    Fault("blend_shape", "blend", _blended(SHAPES), _ALPHAS, held_out=True),
    Fault("blend_part", "blend", _blend_part, _ALPHAS, held_out=True),
    Fault("leak", "leak", _leak, (0.35, 0.7, 1.0)),
    Fault("leak_other", "leak", _leak_other, (0.35, 0.7, 1.0), held_out=True),
    Fault("duplicate", "duplicate", _duplicate, _SHARES),
    Fault("stranger", "duplicate", _stranger, _SHARES, held_out=True),
    Fault("twice", "duplicate", _twice, (0.0, 0.5, 1.0), held_out=True),
    Fault("drift", "drift", _drifting(COLOURS, lambda t: t), _ALPHAS),
    Fault(
        "drift_step", "drift", _drifting(COLOURS, lambda t: np.asarray(t >= 0.5, np.float64)), _ALPHAS, held_out=True
    ),
    Fault("drift_periodic", "drift", _drifting(COLOURS, lambda t: np.sin(2 * np.pi * t) ** 2), _ALPHAS, held_out=True),
    Fault("drift_shape", "drift", _drifting(SHAPES, lambda t: t), _ALPHAS, held_out=True),
    Fault("light", "nuisance", _light, (0.3, 0.6, 1.0)),
    Fault("wall", "nuisance", _wall, (0.3, 0.6, 1.0)),
    Fault("gesture", "nuisance", _gesture, (1.0, 1.0, 1.0), moves=True),
    Fault("blur", "nuisance", _blur, (0.4, 0.8, 1.2)),
    Fault("crossing", "nuisance", _crossing, (0.4, 0.7, 1.0), moves=True),
    Fault("flicker", "nuisance", _flicker, (0.04, 0.08, 0.12), held_out=True),
    Fault("cut", "nuisance", _gesture, (0.25, 0.5, 0.75), held_out=True, moves=True),
    Fault("scale", "nuisance", _scale, (1.02, 1.04, 1.06), held_out=True),
    Fault("mirrored", "nuisance", _mirrored, (1.0, 1.0, 1.0), held_out=True, moves=True),
    Fault("h264", "nuisance", _coded, (24, 30, 36), held_out=True),
)


def find(name: str) -> Fault:
    """The fault of this name. Raises :class:`UserError` for another name."""
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise UserError(f"there is no fault called {name!r}", f"one of {', '.join(fault.name for fault in FAULTS)}")
