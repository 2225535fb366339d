"""The observers, in the order in which they look: a literal table."""

from __future__ import annotations

from collections.abc import Sequence

from ipa_bench.observers import hands, perceptual, pixels
from ipa_bench.observers.base import ObserverInfo
from ipa_bench.observers.networks import EMBEDDED, PUBLISHED, Network
from ipa_bench.observers.perceptual import PerceptualObserver
from ipa_bench.weights.table import HAND_MODELS

HANDS = ObserverInfo("hands", hands.OBSERVER_ID, ("mediapipe-hands",), hands.HandObserver)
PIXELS = ObserverInfo("pixels", pixels.OBSERVER_ID, ("pixels",), lambda *_: pixels.PixelObserver(), "hands")


def perceptual_by(network: Network) -> ObserverInfo:
    """The line of the distances by a network, which are called as it is."""

    def make(threads: int, _: str) -> PerceptualObserver:
        return PerceptualObserver(network, threads)

    return ObserverInfo(network.name, perceptual.OBSERVER_ID, (network.family,), make, "hands")


OBSERVERS: tuple[ObserverInfo, ...] = (HANDS, PIXELS, perceptual_by(PUBLISHED), perceptual_by(EMBEDDED))


def versions(observers: Sequence[ObserverInfo] = OBSERVERS) -> dict[str, str]:
    """What a run records of how it looks: each observer's id under the first name that has it, and the hand models."""
    ids: dict[str, str] = {}
    for observer in observers:
        if observer.id not in ids.values():
            ids[observer.name] = observer.id
    return ids | {"models": HAND_MODELS.replace("==", " ")}
