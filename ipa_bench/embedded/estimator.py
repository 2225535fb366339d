"""What a pose estimator would make of a clip: exact joints, and the same with an estimator's failings.

Real estimators jitter, drop fingers and lose hands, for frames or for a whole clip. A model that is driven by such
poses must invent hands, well or badly; driven by exact ones, its samples of a case hardly differ (measured: 2 % of the
mean hand error), and there would be nothing to align. Metrics never see these poses: they compare with the driving
video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipa_bench.embedded.gesture import drift
from ipa_bench.embedded.people import Person
from ipa_bench.embedded.rig import Rig
from ipa_bench.embedded.world import SIZE, Clip
from ipa_bench.pose import BODY_JOINTS, Pose
from ipa_bench.types import Bool, Float32, Float64, Split


@dataclass(frozen=True)
class Failings:
    """How often an estimator fails."""

    #: chance that a hand is lost in the whole clip, and that one to three fingers of it are
    lost: float = 0.35
    fingerless: float = 0.25
    #: chance that a hand that is not lost is lost for some frames
    gap: float = 0.5
    #: median size of the error of a joint, in palm units; that of a clip is spread about it
    jitter: float = 0.035


#: What the first tiny model was pretrained with: a third of the hands are never seen, and nothing that a model learns
#: can tell their postures.
SEVERE = Failings()
#: What suites of several people have, and those of one person had: a hand is seen most of the time, and every third one
#: lacks fingers, which a model then draws as it likes.
USUAL = Failings(lost=0.08, fingerless=0.35, gap=0.7)
#: What the tiny model is pretrained with, and what suites of one person have: joints are off by a third of a pixel, not
#: by one, where a finger is five wide, and what is wrong with a hand is the model's own doing. Measured with a local
#: regression of latents on the pose map: the share of the latents' detail that stays unexplained falls from 0.9 to 0.8
#: within a minute of training.
MILD = Failings(lost=0.02, fingerless=0.1, gap=0.3, jitter=0.012)


def exact_pose(clip: Clip) -> Pose:
    """The clip's own joints as a :class:`~ipa_bench.pose.Pose`; hips and legs lie below the frame."""
    return joints_of(clip.rig, clip.person, (SIZE, SIZE))


def joints_of(rig: Rig, person: Person, size: tuple[int, int]) -> Pose:
    """One person's joints in a frame of ``size`` (width, height), as :func:`exact_pose`."""
    count = len(rig.chest)
    body = np.zeros((count, len(BODY_JOINTS), 2), np.float32)
    found = np.zeros((count, len(BODY_JOINTS)), bool)
    width, height = person.head
    cos, sin = np.cos(rig.tilt), np.sin(rig.tilt)

    def on_head(x: float, y: float) -> Float64:
        return rig.head + np.stack([x * cos - y * sin, x * sin + y * cos], -1)

    joints: dict[str, Float64] = {"nose": on_head(0, 3.2), "neck": rig.chest}
    for slot, side in enumerate(("left", "right")):
        sign = 1 if side == "left" else -1
        joints |= {
            f"{side}_eye": on_head(sign * width * 0.42, -1.5),
            f"{side}_ear": on_head(sign * width * 0.98, height * 0.06),
            f"{side}_shoulder": rig.shoulder[:, slot, :2],
            f"{side}_elbow": rig.elbow[:, slot, :2],
            f"{side}_wrist": rig.wrist[:, slot, :2],
        }
    for name, points in joints.items():
        body[:, BODY_JOINTS.index(name)] = points
        found[:, BODY_JOINTS.index(name)] = True
    hands = np.asarray(rig.hands[..., :2], np.float32)
    return Pose(body, found, hands, np.ones((count, 2, 21), bool), size)


def estimated_pose(clip: Clip, split: Split, identity: int, take: int, failings: Failings = SEVERE) -> Pose:
    """The clip's joints as an estimator with failings gives them; the same for the same arguments."""
    rng = np.random.default_rng([3, ("train", "val", "test").index(split), identity, take])
    return failing(rng, exact_pose(clip), clip.fps, clip.person.palm, failings)


def failing(rng: np.random.Generator, exact: Pose, fps: float, palm: float, failings: Failings) -> Pose:
    """One person's exact joints as an estimator with failings gives them; ``palm``: pixels of a palm unit."""
    times = np.arange(len(exact)) / fps
    body = exact.body + rng.normal(0, 0.35, exact.body.shape).astype(np.float32)
    hands = np.stack([_jittered(rng, exact.hands[:, slot], times, palm, failings.jitter) for slot in range(2)], 1)
    found = np.stack([_seen(rng, len(times), failings) for _ in range(2)], 1)
    return Pose(body, exact.body_found, hands, found, exact.size)


def _jittered(rng: np.random.Generator, hand: Float32, times: Float64, palm: float, jitter: float) -> Float32:
    """Joints ``[T, 21, 2]`` off by white noise and by a slow drift of each finger, together some % of the palm."""
    strength = palm * float(np.clip(rng.lognormal(np.log(jitter), 0.5), jitter / 3.5, jitter / 0.035 * 0.12))
    white = rng.normal(0, strength, hand.shape)
    slow = np.zeros(hand.shape)
    for finger in range(5):
        joints = slice(1 + 4 * finger, 5 + 4 * finger)
        away = np.stack([drift(rng, times, 1.5 * strength), drift(rng, times, 1.5 * strength)], -1)
        slow[:, joints] = away[:, None] * np.linspace(0.3, 1, 4)[:, None]
    return np.asarray(hand + white + slow, np.float32)


def _seen(rng: np.random.Generator, count: int, failings: Failings) -> Bool:
    """Which joints of one hand the estimator finds, bool ``[T, 21]``."""
    found = np.ones((count, 21), bool)
    fate = rng.random()
    if fate < failings.lost:
        found[:] = False
    elif fate < failings.lost + failings.fingerless:
        for finger in rng.choice(5, int(rng.integers(1, 4)), replace=False):
            found[:, 1 + 4 * finger : 5 + 4 * finger] = False
    if rng.random() < failings.gap:
        first = int(rng.integers(0, count))
        found[first : first + int(rng.integers(2, 7))] = False
    return found
