"""The metrics of sets of videos, in report order: a literal table. No model, no file, no arithmetic."""

from __future__ import annotations

from ipa_bench.types import MetricInfo

_UNIT = "squared features"
_CONTENT = "weak on motion: sees what frames show far better than their order; grows with few clips"


def _frechet(name: str, family: str, source: str, blind_spot: str) -> MetricInfo:
    return MetricInfo(f"{name}@1", _UNIT, "lower", source, blind_spot, "ground_truth", "set", family=(family,))


FVD_EMBEDDED = _frechet(
    "fvd.embedded",
    "embedded-video",
    "a small 3-D network trained on this project's rendered people; not comparable with any published FVD",
    f"knows rendered people only; {_CONTENT}",
)
FVD = _frechet(
    "fvd",
    "i3d",
    "Unterthiner et al., arXiv 1812.01717: I3D, Kinetics-400 logits; short side to 224, centre crop; 16 frames",
    _CONTENT,
)
FVD_DISCO = _frechet(
    "fvd.disco",
    "i3d",
    "the TikTok protocol of DisCo (arXiv 2307.00040): bicubic to 224x224, every window of 16 frames",
    f"ignores the aspect ratio; windows overlap, so they are not independent; {_CONTENT}",
)
FID_VID = _frechet(
    "fid_vid",
    "resnet3d",
    "the TikTok protocol of DisCo: 3D-ResNet-50 on Kinetics, 112x112, mean over segments of 16 frames",
    f"low resolution; {_CONTENT}",
)
HAND_FVMD = MetricInfo(
    id="hand.fvmd@1",
    unit="squared share of motion",
    better="lower",
    source="idea of FVMD, arXiv 2407.16124, on the joints of hands; defined in ipa_bench/metrics/sets/hand_motion.py",
    blind_spot="grows with few clips and with the observer's noise; blind to the shape and the place of hands",
    needs="driving",
    scope="set",
    family=("mediapipe-hands",),
)
#: every metric of sets of videos
SET_METRICS: tuple[MetricInfo, ...] = (FVD_EMBEDDED, HAND_FVMD, FVD, FVD_DISCO, FID_VID)
