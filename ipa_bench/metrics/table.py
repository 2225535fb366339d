"""The metrics of videos and of sets of videos, in report order: literal tables. No model, no file, no arithmetic."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from ipa_bench.errors import UserError
from ipa_bench.metrics import frame, hand, motion, quality
from ipa_bench.metrics.base import Evidence, Measured, Metric
from ipa_bench.metrics.identity_table import IDENTITY
from ipa_bench.metrics.truth import TRUTH
from ipa_bench.types import Better, MetricInfo

_Needs = Literal["driving", "ground_truth", "free"]


#: families of observers, as :data:`ipa_bench.observers.table.OBSERVERS` has them
_HANDS, _PIXELS = ("mediapipe-hands",), ("pixels",)


def _info(
    id: str, unit: str, better: Better, source: str, blind_spot: str, needs: _Needs = "driving", floor: bool = False,
    family: tuple[str, ...] = _HANDS,
) -> MetricInfo:  # fmt: skip
    return MetricInfo(id, unit, better, source, blind_spot, needs, "video", floor, family)


def _composite(
    name: str, blind_spot: str, measure: Callable[[Evidence], Measured], needs: _Needs = "driving"
) -> Metric:
    info = _info(f"{name}@1", "0-1", "higher", "ipa-bench scorer", blind_spot, needs, True)
    return Metric(info, measure, frames="all" if needs == "free" else "driving")


_WANG = "Wang et al., IEEE TIP 2004"
_REGIONS = {
    "hand": "the hand boxes of the ground truth, with a margin of 15 %",
    "frame": "the whole frame",
    "rest": "everything but the hand boxes",
}

#: observer -> unit, family, source and blind spot of its distances
_DISTANCES = {
    "lpips": (
        "LPIPS",
        "alexnet",
        "LPIPS v0.1 (Zhang et al., CVPR 2018), AlexNet",
        "a finger too many of the right texture; looks up to 81 pixels past a region's edge",
    ),
    "lpips.embedded": (
        "distance",
        "embedded-image",
        "ipa-bench: LPIPS with the small network of the built-in world, box-reduced by round(short side / 128)",
        "compares with no published number; made for drawn people, not for filmed ones",
    ),
}


def _pixels(region: str) -> tuple[Metric, ...]:
    where = _REGIONS[region]
    return (
        Metric(
            _info(
                f"{region}.ssim@1",
                "index",
                "higher",
                f"{_WANG}; luma, 11x11 Gaussian 1.5, box-reduced by round(short side / 256); {where}",
                "a pixel's shift costs as much as a missing finger; blind to colour",
                "ground_truth",
                family=_PIXELS,
            ),
            partial(frame.ssim, region=region),
            ("pixels",),
            "truth",
        ),
        Metric(
            _info(
                f"{region}.psnr@1",
                "dB",
                "higher",
                f"10 log10(255^2/MSE) per frame, mean over frames, RGB, capped at 100; {where}",
                "prefers blur to a sharp but shifted hand",
                "ground_truth",
                family=_PIXELS,
            ),
            partial(frame.psnr, region=region),
            ("pixels",),
            "truth",
        ),
        Metric(
            _info(
                f"{region}.l1@1",
                "0-1",
                "lower",
                f"mean absolute difference per value, RGB; {where}",
                "prefers blur to a sharp but shifted hand",
                "ground_truth",
                family=_PIXELS,
            ),
            partial(frame.l1, region=region),
            ("pixels",),
            "truth",
        ),
        *(_lpips(region, network) for network in _DISTANCES),
    )


def _lpips(region: str, network: str) -> Metric:
    where = _REGIONS[region] + ("" if region == "frame" else "; cells of a layer count by their area inside")
    unit, family, net, blind_spot = _DISTANCES[network]
    return Metric(
        _info(
            f"{region}.{network}@1",
            unit,
            "lower",
            f"{net}, bytes as [-1, 1], mean over space, sum over layers; {where}",
            blind_spot,
            "ground_truth",
            family=(family,),
        ),
        partial(frame.lpips, region=region, network=network),
        (network,),
        "truth",
    )


QUALITY = _composite(
    "hand_quality",
    "an extra finger that leaves the others in place; a hand where none is due; texture other than sharpness",
    quality.hand_quality,
)
#: every metric of a video
METRICS: tuple[Metric, ...] = (
    QUALITY,
    _composite("hand_quality.place", "as hand.keypoint_error", quality.place),
    _composite("hand_quality.sharpness", "as hand.sharpness", quality.sharp),
    _composite("hand_quality.motion", "as hand.lag, hand.stall, hand.speed and hand.jitter", quality.moving),
    Metric(
        _info(
            "hand.recall@1",
            "share",
            "higher",
            "1 - missing keypoint rate (Monkey-Net, CVPR 2019), per hand",
            "any hand-like shape counts; a hand where none is due; saturates near 1",
        ),
        hand.recall,
    ),
    Metric(
        _info(
            "hand.confidence@1",
            "0-1",
            "higher",
            "MediaPipe hand presence, misses as 0",
            "a gate: cannot see a sixth finger, mild melting or wrong poses",
            floor=True,
        ),
        hand.confidence,
    ),
    Metric(
        _info(
            "hand.keypoint_error@1",
            "hand sizes",
            "lower",
            "AKD (Monkey-Net, CVPR 2019) over hand size, misses as 1",
            "the landmark net regularises: an extra finger moves it little; texture",
            floor=True,
        ),
        hand.keypoint_error,
    ),
    Metric(
        _info(
            "hand.pck10@1",
            "share",
            "higher",
            "PCK at 0.1 hand size (Yang and Ramanan, TPAMI 2013), misses as 0",
            "blind below its threshold",
            floor=True,
        ),
        partial(hand.pck, alpha=0.1),
    ),
    Metric(
        _info(
            "hand.pck20@1",
            "share",
            "higher",
            "PCK at 0.2 hand size (Yang and Ramanan, TPAMI 2013), misses as 0",
            "blind below its threshold",
            floor=True,
        ),
        partial(hand.pck, alpha=0.2),
    ),
    Metric(
        _info(
            "hand.worst_finger@1",
            "hand sizes",
            "lower",
            "ipa-bench: mean joint error of the worst finger",
            "follows the noisiest finger of the estimator",
            floor=True,
        ),
        hand.worst_finger,
    ),
    Metric(
        _info(
            "hand.jitter@1",
            "|ln ratio|",
            "lower",
            "jerk as in TransPose and GVHMR, against the driving motion",
            "estimator noise; not defined for a hand that is still",
            floor=True,
        ),
        motion.jitter,
    ),
    Metric(
        _info(
            "hand.speed@1",
            "|ln ratio|",
            "lower",
            "ipa-bench: mean joint speed against the driving motion",
            "a hand that moves as fast somewhere else; not defined for a hand that is still",
            floor=True,
        ),
        motion.speed,
    ),
    Metric(
        _info(
            "hand.lag@1",
            "seconds",
            "lower",
            "ipa-bench: the shift at which the driving motion fits best",
            "delays over 0.4 s; not defined for a hand that is still",
            floor=True,
        ),
        motion.lag,
    ),
    Metric(
        _info(
            "hand.stall@1",
            "share",
            "lower",
            "ipa-bench: frames in which the driving hand's pixels change and the generated hand's do not",
            "slow drifting in place of movement; not defined for a hand that is still",
            floor=True,
        ),
        motion.stall,
    ),
    Metric(
        _info(
            "hand.sharpness@1",
            "|ln ratio|",
            "lower",
            "Laplacian energy (Pech-Pacheco et al., ICPR 2000) of the hand box",
            "blur in the reference; shapes",
            floor=True,
        ),
        hand.sharpness,
        frames="truth",
    ),
    Metric(
        _info(
            "hand.bone_drift@1",
            "CV",
            "lower",
            "bone rigidity as in HumanScore (arXiv 2604.20157), finger bones",
            "the landmark net keeps hands plausible; a frozen hand scores best",
            "free",
            True,
        ),
        hand.bone_drift,
        frames="all",
    ),
    *_pixels("hand"),
    *_pixels("frame"),
    *_pixels("rest"),
    Metric(
        _info("hand.seen@1", "share", "higher", "frames with a hand", "says nothing where no hand is due", "free"),
        hand.seen,
        frames="all",
    ),
    Metric(
        _info(
            "hand.presence@1",
            "0-1",
            "higher",
            "MediaPipe hand presence of the hands that are seen",
            "hands that are not seen; saturates near 1",
            "free",
            True,
        ),
        hand.presence,
        frames="all",
    ),
    *IDENTITY,
    *TRUTH,
    _composite(
        "hand_quality_free", "poses, finger counts, and whether a hand is due", quality.hand_quality_free, "free"
    ),
)
#: those that are computed where none is named
DEFAULT = tuple(metric for metric in METRICS if not metric.asked)
#: ids of what hand_quality is made of
PART_IDS = tuple(m.info.id for m in METRICS if m.info.id.startswith("hand_quality."))


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
    family=_HANDS,
)
#: every metric of sets of videos
SET_METRICS: tuple[MetricInfo, ...] = (FVD_EMBEDDED, HAND_FVMD, FVD, FVD_DISCO, FID_VID)
#: what models are ranked on where a suite names no metric: the first of these that is evidence for all of them
RANKED_ON = (QUALITY.info.id, "hand.ssim@1", "hand.lpips.embedded@1")

_FAMILIES = {info.id.partition("@")[0]: info.family for info in (*(m.info for m in METRICS), *SET_METRICS)}


def is_evidence(metric: str, trained_on: Iterable[str]) -> bool:
    """Whether a metric says anything for a model that was trained on these: it is none of them, nor of their families.

    Names with or without version, of videos or of sets; one that no table has stands for itself, or is a family's.
    """
    mine, taught = metric.partition("@")[0], {name.partition("@")[0] for name in trained_on}
    return mine not in taught and not looked_through(taught).intersection(_FAMILIES.get(mine, ()))


def looked_through(names: Iterable[str]) -> set[str]:
    """The families of metrics, by name; a name that no table has is one itself."""
    return {family for name in names for family in _FAMILIES.get(name.partition("@")[0], (name,))}


def no_evidence(trained_on: Iterable[str]) -> tuple[str, ...]:
    """Ids of all metrics, of videos and of sets, that are no evidence for a model that was trained on these."""
    infos = (*(metric.info for metric in METRICS), *SET_METRICS)
    return tuple(info.id for info in infos if not is_evidence(info.id, trained_on))


def find(name: str) -> Metric:
    """The metric of a video called ``name``, with or without its version. Raises UserError naming the nearest one."""
    for metric in METRICS:
        if name in (metric.info.id, metric.info.id.partition("@")[0]):
            return metric
    near = difflib.get_close_matches(name, [m.info.id.partition("@")[0] for m in METRICS], 1)
    fix = f"did you mean {near[0]!r}?" if near else "`ipa-bench metrics` lists them"
    raise UserError(f"there is no metric called {name!r}", fix)
