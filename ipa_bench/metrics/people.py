"""Who is who in a clip: its faces beside the reference pictures of the people that it should show.

Faces come joined to tracks over time, by where they are. Which track stands for a person is decided once for the whole
clip, never frame by frame: matched anew in each frame, two people who exchange their faces would look right throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.metrics.assignment import matched
from ipa_bench.metrics.pairing import pair_times
from ipa_bench.types import Observation

#: a face of fewer pixels in height says too little about whose it is
LEAST_HEIGHT = 24.0
#: heights of a face to which a reference is shrunk, px; the largest is also the most that the networks are shown
LADDER = (24, 30, 38, 48, 60, 76, 96, 128)
#: a face further than this many face heights from where the ground truth shows the person is not in that person's place
REACH = 1.5
#: by how much the similarity of a face has to rise, on average over those that change, before people count as exchanged
GAIN = 0.1


@dataclass(frozen=True)
class Network:
    """A network that tells faces apart, as the arithmetic needs it; its name is part of the ids of metrics."""

    name: str
    #: whether likeness is the cosine of its numbers; else it is 1 - their distance
    angular: bool
    #: likeness from which two faces are one person's, by its authors
    same: float


SFACE = Network("sface", True, 0.363)
#: one person's faces are less than 0.6 apart
DLIB = Network("dlib", False, 0.4)


@dataclass(frozen=True, eq=False)
class People:
    """The faces of a clip of T frames on N tracks, beside K people who have a reference picture each."""

    #: of each face to each reference, the reference shrunk to the face's size (:func:`likenesses`); 0 where not judged
    likeness: Float[ndarray, "T N K"]
    #: a face is there
    found: Bool[ndarray, "T N"]
    #: and is large enough to say whose it is
    judged: Bool[ndarray, "T N"]
    #: the person should be seen here, by the driving video or the ground truth
    expected: Bool[ndarray, "T K"]
    #: seconds
    times: Float[ndarray, "T"]
    #: likeness from which two faces are one person's, for this network
    same: float
    #: whether likeness is a cosine; else it is 1 - distance
    angular: bool
    #: height of each face, px; 0 where there is none
    height: Float[ndarray, "T N"]
    #: the track that stands for each person where the pose says so (-1: none); None where it does not
    slot: Int[ndarray, " K"] | None = None
    #: of the ground truth's face of each person: to the reference, and to the face that stands for the person at the
    #: same time in the clip; NaN where one of them is missing
    truth: Float[ndarray, "T K"] | None = None
    truth_beside: Float[ndarray, "T K"] | None = None
    #: where each face is, for drawing: left, top, width and height of its box, and its five points, px
    box: Float[ndarray, "T N 4"] | None = None
    points: Float[ndarray, "T N 5 2"] | None = None


@dataclass(frozen=True, eq=False)
class Standing:
    """The faces that stand for the K people, frame by frame."""

    #: likeness of the face that stands for person k (second axis) to reference j (third); 0 where not ``judged``
    likeness: Float[ndarray, "T K K"]
    #: the face is there, and is judged
    found: Bool[ndarray, "T K"]
    judged: Bool[ndarray, "T K"]
    #: frames that count: the person should be seen, and is missing or large enough to be judged
    counted: Bool[ndarray, "T K"]

    @property
    def own(self) -> Float[ndarray, "T K"]:
        """Likeness of each person's face to the own reference; 0 where not judged."""
        return np.diagonal(self.likeness, axis1=1, axis2=2)


def beside(
    clip: Observation,
    references: Sequence[Observation],
    network: Network,
    driving: Observation | None = None,
    truth: Observation | None = None,
    places: Observation | None = None,
) -> People:
    """The faces of a clip beside its people's references, on the frames shared with the ground truth, else with the
    poses, else with the driving video, else on all.

    ``clip``, ``driving`` and ``truth`` are what a face observer saw (:class:`ipa_bench.observers.faces.FaceSession`),
    ``references`` what it saw in each reference, both through ``network``. ``places`` says where the poses have each
    person's head. A person should be seen where the ground truth shows the person, without one where the pose has the
    head, without both where the driving video shows as many faces as there are people, and without all of them
    everywhere. Of several people the ground truth, else the poses, also say who is where: see :func:`bound`.
    """
    if truth is None and places is not None and len(references) > 1:
        ours, theirs = pair_times(clip["times"], places["times"])
        clip, places = clip.at(ours), places.at(theirs)
        whose = np.arange(len(references))
        people = _people(bound(clip, places, whose), references, network)
        return replace(people, expected=places["found"].astype(bool), slot=whose)
    other = driving if truth is None else truth
    if other is None:
        return _people(clip, references, network)
    ours, theirs = pair_times(clip["times"], other["times"])
    clip, other = clip.at(ours), other.at(theirs)
    if truth is None:
        shown = other["found"].sum(axis=1) >= len(references)
        people = _people(clip, references, network)
        return replace(people, expected=np.repeat(shown[:, None], len(references), 1))
    right = _people(other, references, network)
    stand, theirs = standing(right), assign(right)
    slot = None
    if len(references) > 1:
        clip, slot = bound(clip, other, theirs), np.arange(len(references))
    people = replace(_people(clip, references, network), expected=stand.found, slot=slot)
    size = references[0]["ladder"].shape[2]
    numbers = _numbers(clip, assign(people), size), _numbers(other, theirs, size)
    both = standing(people).judged & stand.judged
    return replace(
        people,
        truth=np.where(stand.judged, stand.own, np.nan),
        truth_beside=np.where(both, likenesses(numbers[0], numbers[1], network), np.nan),
    )


def bound(clip: Observation, truth: Observation, chosen: Int[ndarray, " K"]) -> Observation:
    """The faces of a clip in the places of K people: what stands where the ground truth shows person k is k's face.

    ``chosen`` are the people's tracks in the ground truth (-1: none), whose frames are the clip's. In each frame the
    faces take the places that are nearest, at most ``REACH`` face heights away, each one place. The result has K
    columns for the places, and behind them what is left over, on its tracks.
    """
    scale = truth["size"].astype(np.float64) / clip["size"]
    ours = (clip["box"][..., :2] + clip["box"][..., 2:] / 2) * scale
    boxes, there = (np.concatenate([truth[n], np.zeros_like(truth[n][:, :1])], 1)[:, chosen] for n in ("box", "found"))
    theirs, height = boxes[..., :2] + boxes[..., 2:] / 2, np.maximum(boxes[..., 3], 1.0)
    distance = np.linalg.norm(ours[:, :, None] - theirs[:, None], axis=-1) / height[:, None]
    distance = np.where(clip["found"][:, :, None] & there[:, None], np.minimum(distance, 2 * REACH), 2 * REACH)
    frames, tracks = clip["found"].shape
    column = np.tile(len(chosen) + np.arange(tracks), (frames, 1))
    for frame in range(frames):
        faces, places = matched(distance[frame])
        near = distance[frame, faces, places] <= REACH
        column[frame, faces[near]] = places[near]
    rows, faces = np.nonzero(clip["found"])
    made = dict(clip.values)
    for name in ("found", "box", "points", "numbers") if "points" in clip.values else ("found", "box", "numbers"):
        whole = np.zeros((frames, len(chosen) + tracks, *clip[name].shape[2:]), clip[name].dtype)
        whole[rows, column[rows, faces]] = clip[name][rows, faces]
        made[name] = whole
    return Observation(clip.observer, clip.sha256, made)


def likenesses(ours: Float[ndarray, "*S D"], theirs: Float[ndarray, "*S D"], network: Network) -> Float[ndarray, "*S"]:
    """How alike faces are by a network's numbers: their cosine, or 1 - their distance; 1 for equal ones."""
    if not network.angular:
        return np.asarray(1 - np.linalg.norm(ours - theirs, axis=-1))
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return np.asarray((ours * theirs).sum(axis=-1) / np.maximum(lengths, 1e-9))


def _people(clip: Observation, references: Sequence[Observation], network: Network) -> People:
    """As :func:`beside`, of one video by itself."""
    found, height = clip["found"].astype(bool), clip["box"][..., 3].astype(np.float64)
    judged = found & (height >= LEAST_HEIGHT)
    ladder = np.stack([each["ladder"][0] for each in references]).astype(np.float64)
    likeness = np.zeros((*found.shape, len(references)))
    if judged.any():  # a clip without a face has no numbers, not even their count
        # [faces, people, numbers]: each face's references, shrunk to its size
        shrunk = ladder[:, rungs(height[judged])].transpose(1, 0, 2)
        numbers = clip["numbers"][judged].astype(np.float64)
        likeness[judged] = likenesses(np.repeat(numbers[:, None], len(references), 1), shrunk, network)
    expected = np.ones((len(found), len(references)), bool)
    times = clip["times"].astype(np.float64)
    tall = np.where(found, height, 0.0)
    return People(
        likeness, found, judged, expected, times, network.same, network.angular, tall,
        box=clip["box"], points=clip.values.get("points"),
    )  # fmt: skip


def rungs(height: Float[ndarray, " F"]) -> Int[ndarray, " F"]:
    """For each height, px, the place in :data:`LADDER` that is nearest in ratio."""
    return np.asarray(np.abs(np.log(LADDER)[None] - np.log(np.maximum(height, 1.0))[:, None]).argmin(axis=1))


def _numbers(clip: Observation, chosen: Int[ndarray, " K"], size: int) -> Float[ndarray, "T K D"]:
    """The ``size`` numbers of each of the faces that stand for people; 0 for those who have none."""
    frames, tracks = clip["found"].shape
    numbers = np.zeros((frames, tracks + 1, size))
    if clip["found"].any():
        numbers[:, :tracks] = clip["numbers"]
    return numbers[:, chosen]


def assign(people: People) -> Int[ndarray, " K"]:
    """The track that stands for each person in the whole clip, -1 for none: the pose's, else the best of all.

    The best is one assignment of tracks to people, each at most once, with the largest sum of likenesses over the
    frames in which the person should be seen. A missing face adds 0.
    """
    if people.slot is not None:
        return people.slot
    weight = people.judged[:, :, None] & people.expected[:, None, :]
    gain = np.where(weight, people.likeness, 0.0).sum(axis=0)
    # Of tracks that are equally alike the longer one stands for the person: also where no face is large enough.
    seen = (people.found[:, :, None] & people.expected[:, None, :]).sum(axis=0)
    tracks, persons = matched(gain + 1e-9 * seen, maximize=True)
    chosen = np.full(people.likeness.shape[2], -1)
    chosen[persons] = tracks
    return chosen


def standing(people: People) -> Standing:
    """The faces of the tracks that :func:`assign` gives."""
    chosen = assign(people)
    frames, tracks, persons = people.likeness.shape
    have = chosen >= 0
    # A track that is not there, behind the others, stands for those who have none.
    padded = [np.concatenate([each, np.zeros_like(each[:, :1])], 1) if tracks else np.zeros((frames, 1), bool)
              for each in (people.found, people.judged)]  # fmt: skip
    found, judged = (each[:, np.where(have, chosen, -1)] for each in padded)
    likeness = np.zeros((frames, persons, persons))
    likeness[:, have] = people.likeness[:, chosen[have]]
    likeness = np.where(judged[:, :, None], likeness, 0.0)
    return Standing(likeness, found, judged, people.expected & (judged | ~found))


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
            likeness = stand.likeness[frame][present]
            best = matched(likeness, maximize=True)[1]
            changed = best != state[present]
            rows = np.arange(len(present))
            better = (likeness[rows, best] - likeness[rows, state[present]]).sum()
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
