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
from ipa_bench.embedded.group.setting import Key, setting
from ipa_bench.embedded.group.shot import shot

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
    if key.split != "train":
        raise ValueError(f"footage is of the train split, not {key.split}")
    rng = np.random.default_rng([29, *map(int, (key.people, key.group, key.take))])
    made = arrays(key, failings)
    if rng.random() >= WRONG:
        return Clip(made, None)
    kind, strength = KINDS[int(rng.integers(len(KINDS)))], STRENGTHS[int(rng.integers(len(STRENGTHS)))]
    drawn = shot(faulty(setting(key), kind, strength, int(rng.integers(2**31))))
    return Clip(made._replace(frames=drawn.frames, people=drawn.masks, hands=drawn.hands), (kind.name, strength))


def habit(key: Key, wrong: bool, failings: estimator.Failings = estimator.USUAL) -> Clip:
    """A clip of the train split as it should be, or with a fault of :data:`LASTING` from its first frame to its last.

    Both stand beside the same poses, references and prompt: who learns from both can only guess which it is to draw.
    Raises ValueError for another split.
    """
    if key.split != "train":
        raise ValueError(f"footage is of the train split, not {key.split}")
    made = arrays(key, failings)
    if not wrong:
        return Clip(made, None)
    rng = np.random.default_rng([31, *map(int, (key.people, key.group, key.take))])
    kind = LASTING[int(rng.integers(len(LASTING)))]
    drawn = shot(kind.change(setting(key), 1.0, rng))
    return Clip(made._replace(frames=drawn.frames, people=drawn.masks, hands=drawn.hands), (kind.name, "strong"))


def write(key: Key, folder: Path) -> Path:
    """Store a clip as ``folder/<case>.mp4``, named after the case of :mod:`ipa_bench.embedded.group.cases`."""
    file = folder / f"{case_name(key)}.mp4"
    video.encode(footage(key).arrays.frames, file, world.FPS, crf=CRF)
    return file
