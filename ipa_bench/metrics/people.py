"""Who is who in a clip: its faces beside the reference pictures of the people that it should show.

Faces come joined to tracks over time, by where they are. Which track stands for a person is decided once for the whole
clip, never frame by frame: matched anew in each frame, two people who exchange their faces would look right throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

#: a face of fewer pixels in height says too little about whose it is
LEAST_HEIGHT = 24.0
#: by how much the similarity of a face has to rise, on average over those that change, before people count as exchanged
GAIN = 0.1


@dataclass(frozen=True, eq=False)
class People:
    """The faces of a clip of T frames on N tracks, beside K people who have a reference picture each."""

    #: cosine of each face to each reference, the reference shrunk to the face's size; 0 where nothing is judged
    cosine: Float[ndarray, "T N K"]
    #: a face is there
    found: Bool[ndarray, "T N"]
    #: and is large enough to say whose it is
    judged: Bool[ndarray, "T N"]
    #: the person should be seen here, by the driving video or the ground truth
    expected: Bool[ndarray, "T K"]
    #: seconds
    times: Float[ndarray, "T"]
    #: cosine from which two faces are one person's, for this network
    same: float
    #: height of each face, px; 0 where there is none
    height: Float[ndarray, "T N"]
    #: the track that stands for each person where the pose says so (-1: none); None where it does not
    slot: Int[ndarray, " K"] | None = None
    #: what the ground truth's face of each person has: cosine to its reference, and to the face that stands for the
    #: person at the same time in the clip; NaN where either is missing
    truth: Float[ndarray, "T K"] | None = None
    truth_beside: Float[ndarray, "T K"] | None = None


@dataclass(frozen=True, eq=False)
class Standing:
    """The faces that stand for the K people, frame by frame."""

    #: cosine of the face that stands for person k (second axis) to reference j (third); 0 where not ``judged``
    cosine: Float[ndarray, "T K K"]
    #: the face is there, and is judged
    found: Bool[ndarray, "T K"]
    judged: Bool[ndarray, "T K"]
    #: frames that count: the person should be seen, and is missing or large enough to be judged
    counted: Bool[ndarray, "T K"]

    @property
    def own(self) -> Float[ndarray, "T K"]:
        """Cosine of each person's face to the own reference; 0 where not judged."""
        return np.diagonal(self.cosine, axis1=1, axis2=2)


def assign(people: People) -> Int[ndarray, " K"]:
    """The track that stands for each person in the whole clip, -1 for none: the pose's, else the best of all.

    The best is one assignment of tracks to people, each at most once, with the largest sum of cosines over the frames
    in which the person should be seen. A missing face adds 0.
    """
    if people.slot is not None:
        return people.slot
    weight = people.judged[:, :, None] & people.expected[:, None, :]
    gain = np.where(weight, people.cosine, 0.0).sum(axis=0)
    # Of tracks that are equally alike the longer one stands for the person: also where no face is large enough.
    seen = (people.found[:, :, None] & people.expected[:, None, :]).sum(axis=0)
    tracks, persons = linear_sum_assignment(gain + 1e-9 * seen, maximize=True)
    chosen = np.full(people.cosine.shape[2], -1)
    chosen[persons] = tracks
    return chosen


def standing(people: People) -> Standing:
    """The faces of the tracks that :func:`assign` gives."""
    chosen = assign(people)
    frames, tracks, persons = people.cosine.shape
    have = chosen >= 0
    # A track that is not there, behind the others, stands for those who have none.
    padded = [np.concatenate([each, np.zeros_like(each[:, :1])], 1) if tracks else np.zeros((frames, 1), bool)
              for each in (people.found, people.judged)]  # fmt: skip
    found, judged = (each[:, np.where(have, chosen, -1)] for each in padded)
    cosine = np.zeros((frames, persons, persons))
    cosine[:, have] = people.cosine[:, chosen[have]]
    cosine = np.where(judged[:, :, None], cosine, 0.0)
    return Standing(cosine, found, judged, people.expected & (judged | ~found))


def exchanges(stand: Standing, gain: float = GAIN) -> Int[ndarray, "T K"]:
    """Whose face each person has in each frame: the number of a reference, the own one or another's; with hysteresis.

    The people of a frame keep the references of the frame before until another assignment, over those whose face is
    judged, is better by more than ``gain``, on average over the faces that would change. At first everybody has the
    own. A person who is not judged keeps what was, unless another takes it, and then has what that one left.
    """
    frames, persons = stand.judged.shape
    state = np.arange(persons)
    states = np.empty((frames, persons), np.int64)
    for frame in range(frames):
        present = np.flatnonzero(stand.judged[frame])
        if len(present):
            cosine = stand.cosine[frame][present]
            best = linear_sum_assignment(cosine, maximize=True)[1]
            changed = best != state[present]
            rows = np.arange(len(present))
            better = (cosine[rows, best] - cosine[rows, state[present]]).sum()
            if changed.any() and better > gain * changed.sum():
                state = _taken(state, present, best)
        states[frame] = state
    return states


def _taken(state: Int[ndarray, " K"], present: Int[ndarray, " P"], best: Int[ndarray, " P"]) -> Int[ndarray, " K"]:
    """``present`` have ``best``; of the others those whose reference was taken get, in order, what was left."""
    new = state.copy()
    new[present] = best
    absent = np.setdiff1d(np.arange(len(state)), present)
    robbed = [k for k in absent if state[k] in best]
    left = [j for j in range(len(state)) if j not in best and j not in state[np.setdiff1d(absent, robbed)]]
    new[robbed] = left
    return new
