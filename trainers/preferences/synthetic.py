"""Preferences of known outcome: clips of the built-in world beside the same clips with a fault, or with a nuisance.

Clean beats faulty, mild beats strong, and clean against a nuisance, or against itself, is a tie. Nuisances that break
time (a cut to other gestures, flicker) are among the ties: without them a reward learns that a jump is bad. A share of
the comparisons is seen through what a generator does to pictures (blur, noise, compression), on both sides alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from ipa_bench import video
from ipa_bench.embedded import world
from ipa_bench.embedded.group import faults
from ipa_bench.embedded.group.faults import FAULTS, STRENGTHS, Fault, Strength
from ipa_bench.embedded.group.setting import Key, Setting, at, setting
from ipa_bench.embedded.group.shot import estimated_poses, reference, shot
from ipa_bench.types import Bool, Float64, UInt8
from trainers.reward_model.seen import Seen, moments, places_of

#: of the train and the val split: groups from here on are a reward's, and nothing else of this project shows them
FIRST = 500_000
#: kinds that a reward is trained on; nuisances that keep people where they are and those that move them
TRAINED = tuple(fault for fault in FAULTS if not fault.held_out)
Outcome = Literal["a", "tie"]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two clips of one group; ``a`` is better, or neither is."""

    a: Seen
    b: Seen
    outcome: Outcome
    #: name of the fault or nuisance of ``b``
    fault: str
    #: whether a person does not look like themselves, ``[2, K, F]`` of a and b: what a network may be told beside
    wrong: Bool


def pairs(key: Key, kinds: Sequence[Fault], frames: int, height: int) -> list[Pair]:
    """For each kind a pair of the group, the same for the same arguments: two thirds of the faults against the clean
    clip, the others mild against strong; nuisances against the clean one.
    """
    rng = np.random.default_rng([31, key.people, key.group, len(kinds)])
    described = setting(key)
    chosen = moments(len(described), frames)
    size = (round(described.size[0] * height / described.size[1]), height)
    people = np.stack([video.resize(reference(key, slot), size, "area") for slot in range(key.people)])
    clean = _drawn(described, described, key, chosen, size, people)
    made = []
    for kind in kinds:
        seed = int(rng.integers(2**31))
        harmless = kind.family == "nuisance"
        if harmless or rng.random() < 2 / 3:
            strength: Strength = STRENGTHS[int(rng.integers(3))]
            first = described
        else:
            strength = "strong"
            first = faults.faulty(described, kind, "mild", seed)
        second = faults.faulty(described, kind, strength, seed)
        wrong = np.stack([_wrong(each, chosen) for each in (first, second)])
        a = clean if first is described else _drawn(described, first, key, chosen, size, people)
        b = _drawn(described, second, key, chosen, size, people)
        made.append(Pair(a, b, "tie" if harmless else "a", kind.name, wrong))
    return made


def _wrong(shown: Setting, chosen: Sequence[int]) -> Bool:
    return np.array([[shown.looks[t][slot] != person for t in chosen] for slot, person in enumerate(shown.people)])


def _drawn(own: Setting, shown: Setting, key: Key, chosen: Sequence[int], size: tuple[int, int], people: UInt8) -> Seen:
    """A setting's clip; where a nuisance moves people, the poses move with them."""
    poses = estimated_poses(shown if len(shown.rigs) == len(own.rigs) else own, key)
    drawn = shot(at(shown, chosen)).frames
    frames = np.stack([video.resize(frame, size, "area") for frame in drawn])
    return Seen(frames, people, places_of(poses, chosen, world.FRAMES))


def through_a_generator(a: Seen, b: Seen, rng: np.random.Generator) -> tuple[Seen, Seen]:
    """Both clips as a model might have made them: blurred, noisy, in other colours, alike; references stay."""
    blur, noise = rng.uniform(0, 1.0), rng.uniform(0, 10)
    shift, scale = rng.normal(0, 6, 3), rng.uniform(0.9, 1.1)

    def changed(seen: Seen) -> Seen:
        x: Float64 = gaussian_filter(seen.frames.astype(np.float64), (0, blur, blur, 0))
        x = (x - 128) * scale + 128 + shift + rng.normal(0, noise, x.shape)
        return Seen(np.clip(x, 0, 255).astype(np.uint8), seen.references, seen.places)

    return changed(a), changed(b)
