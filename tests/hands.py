"""Made-up hands for tests: a plausible skeleton that moves smoothly, as the observer would report it."""

from dataclasses import replace

import numpy as np

from ipa_bench.metrics.base import Evidence
from ipa_bench.observers.mediapipe.palm import Hand
from ipa_bench.types import HandTracks, Observation

#: an open right hand, unit size, MediaPipe's joint order
OPEN_HAND = np.array(
    [
        (0.45, 1.0), (0.25, 0.85), (0.13, 0.68), (0.06, 0.55), (0.0, 0.45), (0.3, 0.5), (0.26, 0.32), (0.24, 0.2),
        (0.22, 0.1), (0.45, 0.46), (0.45, 0.25), (0.45, 0.12), (0.45, 0.0), (0.58, 0.5), (0.62, 0.3), (0.64, 0.18),
        (0.66, 0.08), (0.7, 0.58), (0.78, 0.44), (0.83, 0.35), (0.88, 0.27),
    ]
)  # fmt: skip


def hand(x: float, y: float, presence: float = 0.9, size: float = 40) -> Hand:
    """An open hand about (x, y), as a detector gives it."""
    return Hand(((OPEN_HAND - 0.5) * size + (x, y)).astype(np.float32), np.zeros((21, 3), np.float32), presence)


def made_up(
    frames: int = 48, size: float = 100.0, fps: float = 25.0, speed: float = 1.0, seed: int = 0, slots: int = 2
) -> HandTracks:
    """Hands of ``size`` px that circle at about ``speed`` hand sizes a second in a 640 x 480 picture."""
    rng = np.random.default_rng(seed)
    times = np.arange(frames) / fps
    landmarks = np.zeros((frames, 2, 21, 2), np.float32)
    found = np.zeros((frames, 2), bool)
    for slot in range(slots):
        phase = rng.uniform(0, 2 * np.pi)
        angle = 2 * np.pi * 0.7 * times + phase
        radius = speed * size / (2 * np.pi * 0.7)
        centre = np.array([420.0 - 260 * slot, 200.0]) + radius * np.stack([np.cos(angle), np.sin(angle)], -1)
        curl = 1 + 0.1 * np.sin(angle)[:, None, None]
        landmarks[:, slot] = centre[:, None] + (OPEN_HAND - 0.5) * size * curl
        found[:, slot] = True
    box = np.concatenate([landmarks.min(axis=2), landmarks.max(axis=2)], axis=-1) * found[..., None]
    depth = np.zeros((*landmarks.shape[:-1], 1), np.float32)
    world = np.concatenate([landmarks / size * 0.18, depth], axis=-1).astype(np.float32)
    ones = found.astype(np.float32)
    return HandTracks(
        landmarks, world, ones * 0.99, box.astype(np.float32), ones * 0.5, ones * 0.2, found, times, (640, 480),
        "hands@test", f"made-up-{seed}",
    )  # fmt: skip


def moved(tracks: HandTracks, offset) -> HandTracks:
    """Every joint moved by ``offset``, px, broadcast over ``[T, 2, 21, 2]``."""
    landmarks = (tracks.landmarks + offset * tracks.found[..., None, None]).astype(np.float32)
    return replace(tracks, landmarks=landmarks)


def without(tracks: HandTracks, frames) -> HandTracks:
    """No hand in these frames."""
    seen = np.ones(len(tracks.times), bool)
    seen[frames] = False
    keep = tracks.found & seen[:, None]
    return replace(
        tracks,
        found=keep,
        landmarks=tracks.landmarks * keep[..., None, None],
        presence=tracks.presence * keep,
        sharpness=tracks.sharpness * keep,
        change=tracks.change * keep,
    )


def shown(tracks: HandTracks, order) -> HandTracks:
    """The frames of ``order`` in place of 0, 1, 2, ...; repeated frames do not change."""
    order = np.asarray(order)
    fields = {f: getattr(tracks, f)[order] for f in ("landmarks", "world", "presence", "box", "sharpness", "found")}
    repeated = np.concatenate([[True], np.diff(order) == 0])
    return replace(tracks, **fields, change=tracks.change[order] * ~repeated[:, None])


def observed(tracks: HandTracks, driving=None, truth=None, reasons=None, **compared) -> Evidence:
    """What would have been observed of a video with these hands; ``compared``: observer -> arrays by name."""
    seen = {name: Observation(f"{name}@test", "pair", arrays) for name, arrays in compared.items()}
    return Evidence({"hands": tracks.observation, **seen}, driving, truth, reasons or {})
