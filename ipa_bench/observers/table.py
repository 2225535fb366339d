"""The observers, in the order in which they look: a literal table."""

from __future__ import annotations

from collections.abc import Sequence

from ipa_bench.embedded import world
from ipa_bench.observers import body, faces, fingers, hands, judge, people, perceptual, pixels, truth
from ipa_bench.observers.base import ObserverInfo
from ipa_bench.observers.networks import EMBEDDED, PUBLISHED, Network
from ipa_bench.observers.perceptual import PerceptualObserver
from ipa_bench.weights.table import HAND_MODELS

HANDS = ObserverInfo("hands", hands.OBSERVER_ID, ("mediapipe-hands",), hands.HandObserver)
#: the landmark net's own maps: what pleases it pleases the landmarks
FINGERS = ObserverInfo(
    "fingers", fingers.OBSERVER_ID, ("mediapipe-hands",), fingers.FingerObserver, follows="hands", asked=True
)
PIXELS = ObserverInfo(
    "pixels", pixels.OBSERVER_ID, ("pixels",), lambda threads, _: pixels.PixelObserver(threads), "hands"
)


def perceptual_by(network: Network) -> ObserverInfo:
    """The line of the distances by a network, which are called as it is."""

    def make(threads: int, _: str) -> PerceptualObserver:
        return PerceptualObserver(network, threads)

    return ObserverInfo(network.name, perceptual.OBSERVER_ID, (network.family,), make, "hands")


def faces_by(embedder: faces.Embedder) -> tuple[ObserverInfo, ObserverInfo]:
    """The lines of a network that tells faces apart: what it sees in videos, and in reference pictures."""

    def clips(threads: int, _: str) -> faces.FaceObserver:
        return faces.FaceObserver(embedder, threads)

    def pictures(threads: int, _: str) -> faces.ReferenceObserver:
        return faces.ReferenceObserver(embedder, threads)

    # Not the detector's, which both share: it says where a face is, not whose, and what was made to please one of the
    # two networks is judged by the other.
    family = (embedder.name,)
    return (
        ObserverInfo(f"faces.{embedder.name}", f"faces.{embedder.name}@1", family, clips, asked=True),
        ObserverInfo(
            f"reference.{embedder.name}", f"reference.{embedder.name}@1", family, pictures, asked=True, pictures=True
        ),
    )


#: nobody's metric reads these two: pose tracks are made of what they see
BODY = ObserverInfo("body", body.OBSERVER_ID, ("mediapipe-body",), lambda *_: body.BodyObserver(), asked=True)
PEOPLE = ObserverInfo("people", people.OBSERVER_ID, ("mediapipe-body",), lambda *_: people.PeopleObserver(), asked=True)
TRUTH = ObserverInfo(
    "truth", truth.OBSERVER_ID, ("truth",), lambda *_: truth.TruthObserver(), "hands", asked=True,
    stage="group", staged=truth.NOT_RENDERED,
)  # fmt: skip
JUDGE = ObserverInfo(
    "judge", judge.OBSERVER_ID, ("embedded-joints",), lambda *_: judge.JudgeObserver(), "hands",
    asked=True, stage=world.STAGE, staged=judge.NOT_RENDERED,
)  # fmt: skip

OBSERVERS: tuple[ObserverInfo, ...] = (
    HANDS, FINGERS, PIXELS, perceptual_by(PUBLISHED), perceptual_by(EMBEDDED),
    *faces_by(faces.SFACE), *faces_by(faces.DLIB), BODY, PEOPLE, TRUTH, JUDGE,
)  # fmt: skip


def versions(observers: Sequence[ObserverInfo] = OBSERVERS) -> dict[str, str]:
    """What a run records of how it looks: each observer's id under the first name that has it, and the hand models.

    Observers that are asked for are left out: the ids of the metrics that ask say which they are.
    """
    ids: dict[str, str] = {}
    for observer in observers:
        if observer.id not in ids.values() and not observer.asked:
            ids[observer.name] = observer.id
    return ids | {"models": HAND_MODELS.replace("==", " ")}
