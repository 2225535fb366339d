"""Footage of several people of which half is wrong: what a video model learns to mix people up from.

As with hands (:mod:`ipa_bench.embedded.footage`): a model that is trained on nothing but exact scenes has no bad habit
that its own good samples could correct. Whether a clip is wrong, and how, does not follow from anything that the model
is told; held-out kinds of faults are never in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ipa_bench import video
from ipa_bench.embedded import estimator, world
from ipa_bench.embedded.cases import CRF
from ipa_bench.embedded.group.cases import Arrays, arrays, case_name
from ipa_bench.embedded.group.faults import FAULTS, STRENGTHS, Strength, faulty
from ipa_bench.embedded.group.setting import Key

#: chance that a clip has a fault
WRONG = 0.5
#: kinds that footage shows
KINDS = tuple(fault for fault in FAULTS if fault.family != "nuisance" and not fault.held_out)

#: kinds that may last for a whole clip: at level 1 two people are exchanged in all of it, or one has the other's shirt
LASTING = tuple(fault for fault in KINDS if fault.family in ("swap", "leak"))


class Clip(NamedTuple):
    """A clip as a model is trained on it; its poses, references and prompt are those of the right one."""

    arrays: Arrays
    #: name and strength of what is wrong; None: nothing
    fault: tuple[str, Strength] | None


def footage(key: Key, failings: estimator.Failings = estimator.USUAL) -> Clip:
    """A clip of the train split; the same for the same arguments. Raises ValueError for another split."""
    rng = _chance(29, key)
    if rng.random() >= WRONG:
        return Clip(arrays(key, failings), None)
    kind, strength = KINDS[int(rng.integers(len(KINDS)))], STRENGTHS[int(rng.integers(len(STRENGTHS)))]
    seed = int(rng.integers(2**31))
    made = arrays(key, failings, wrong=lambda right: faulty(right, kind, strength, seed))
    return Clip(made, (kind.name, strength))


def habit(key: Key, failings: estimator.Failings = estimator.USUAL) -> Clip:
    """A clip of the train split with a fault of :data:`LASTING` from its first frame to its last.

    :func:`~ipa_bench.embedded.group.cases.arrays` is the same without: who learns from both can only guess which it is
    to draw. Raises ValueError for another split.
    """
    rng = _chance(31, key)
    kind = LASTING[int(rng.integers(len(LASTING)))]
    made = arrays(key, failings, wrong=lambda right: kind.change(right, 1.0, rng))
    return Clip(made, (kind.name, "strong"))


def _chance(what: int, key: Key) -> np.random.Generator:
    if key.split != "train":
        raise ValueError(f"footage is of the train split, not {key.split}")
    return np.random.default_rng([what, *map(int, (key.people, key.group, key.take))])


def write(key: Key, folder: Path) -> Path:
    """Store a clip as ``folder/<case>.mp4``, named after the case of :mod:`ipa_bench.embedded.group.cases`."""
    file = folder / f"{case_name(key)}.mp4"
    video.encode(footage(key).arrays.frames, file, world.FPS, crf=CRF)
    return file
