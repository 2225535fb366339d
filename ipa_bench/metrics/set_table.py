"""The metrics of sets of videos, in report order: what each is called, and what one must know to read it."""

from __future__ import annotations

from ipa_bench.metrics.sets import hand_motion
from ipa_bench.types import MetricInfo

_UNIT = "squared features"
_CONTENT = "weak on motion: sees what frames show far better than their order; grows with few clips"


def _frechet(name: str, source: str, blind_spot: str) -> MetricInfo:
    return MetricInfo(f"{name}@1", _UNIT, "lower", source, blind_spot, "ground_truth", "set")


FVD_EMBEDDED = _frechet(
    "fvd.embedded",
    "a small 3-D network trained on this project's rendered people; not comparable with any published FVD",
    f"knows rendered people only; {_CONTENT}",
)
FVD = _frechet(
    "fvd",
    "Unterthiner et al., arXiv 1812.01717: I3D, Kinetics-400 logits; short side to 224, centre crop; 16 frames",
    _CONTENT,
)
FVD_DISCO = _frechet(
    "fvd.disco",
    "the TikTok protocol of DisCo (arXiv 2307.00040): bicubic to 224x224, every window of 16 frames",
    f"ignores the aspect ratio; windows overlap, so they are not independent; {_CONTENT}",
)
FID_VID = _frechet(
    "fid_vid",
    "the TikTok protocol of DisCo: 3D-ResNet-50 on Kinetics, 112x112, mean over segments of 16 frames",
    f"low resolution; {_CONTENT}",
)
#: every metric of sets, in report order
SET_METRICS: tuple[MetricInfo, ...] = (FVD_EMBEDDED, hand_motion.INFO, FVD, FVD_DISCO, FID_VID)
