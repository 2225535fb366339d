"""The metrics of videos, in report order: a literal table. No model, no file, no arithmetic."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from ipa_bench.errors import UserError
from ipa_bench.metrics import alignment, frame, hand, motion, quality
from ipa_bench.metrics.base import Evidence, Measured, Metric
from ipa_bench.metrics.fingers import FINGERS
from ipa_bench.metrics.former import FORMER
from ipa_bench.metrics.identity_table import IDENTITY
from ipa_bench.metrics.judge import JUDGE
from ipa_bench.metrics.set_table import SET_METRICS as SET_METRICS
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


def _composite(name: str, blind_spot: str, measure: Callable[[Evidence], Measured]) -> Metric:
    return Metric(_info(f"{name}@4", "0-1", "higher", "ipa-bench scorer", blind_spot, floor=True), measure)


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
    _composite("hand_quality.shape", "as hand.keypoint_error, shifts apart", quality.shape),
    _composite("hand_quality.sharpness", "as hand.sharpness", quality.sharp),
    _composite("hand_quality.motion", "as hand.stall, hand.speed and hand.jitter", quality.moving),
    _composite("hand_quality.alignment", "as hand.offset and hand.lag", quality.alignment),
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
            "hand.jitter@2",
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
            "hand.speed@2",
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
            "hand.offset@2",
            "frame widths",
            "lower",
            "ipa-bench: one shift for all hands of the video, median over hands, frames and joints",
            "hands that are beside their place in different ways",
            floor=True,
        ),
        alignment.offset,
    ),
    Metric(
        _info(
            "hand.lag@3",
            "seconds",
            "lower",
            "ipa-bench: the shift at which the driving motion fits best, an offset in space apart",
            "delays over 0.4 s; not defined for a hand that is still",
            floor=True,
        ),
        alignment.lag,
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
            "hand.sharpness@2",
            "|ln ratio|",
            "lower",
            "Laplacian energy (Pech-Pacheco et al., ICPR 2000) of the hand box, in all frames or in the fastest",
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
            "hand.followed@1",
            "share",
            "lower",
            "ipa-bench: hands found only where they were up to a quarter of a second before or after",
            "hands that are not seen at all",
            "free",
        ),
        hand.followed,
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
    *FINGERS,
    *IDENTITY,
    *TRUTH,
    *JUDGE,
)
#: those that are computed where none is named
DEFAULT = tuple(metric for metric in METRICS if not metric.asked)
#: ids of what hand_quality is made of
PART_IDS = tuple(m.info.id for m in METRICS if m.info.id.startswith("hand_quality."))


def parts_of(metric: str) -> tuple[str, ...]:
    """Ids of the metrics that a composite is made of, in its own version; none of any other metric."""
    name, _, version = metric.partition("@")
    every = (*PART_IDS, *(info.id for info in FORMER)) if name == QUALITY.info.id.partition("@")[0] else ()
    return tuple(part for part in every if part.startswith(f"{name}.") and part.endswith(f"@{version}"))


#: what models are ranked on where a suite names no metric: the first of these that is evidence for all of them
RANKED_ON = (QUALITY.info.id, "truth.hand_error@1", "hand.ssim@1", "hand.lpips.embedded@1")

_FAMILIES = {info.id.partition("@")[0]: info.family for info in (*FORMER, *(m.info for m in METRICS), *SET_METRICS)}


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


def infos_of(metrics: Iterable[str]) -> tuple[MetricInfo, ...]:
    """What is known of the metrics that a run holds, in report order, those of earlier versions among them."""
    held = set(metrics)
    return tuple(info for info in (*FORMER, *(metric.info for metric in METRICS)) if info.id in held)


def info_in(name: str, metrics: Iterable[str]) -> MetricInfo:
    """What is known of a metric as a run holds it: the version that is among its ``metrics``, else the present one.

    Raises UserError as :func:`find` does.
    """
    of_run = infos_of(metrics)
    return next((info for info in of_run if name in (info.id, info.id.partition("@")[0])), None) or find(name).info


def find(name: str) -> Metric:
    """The metric of a video called ``name``, with or without its version. Raises UserError naming the nearest one."""
    for metric in METRICS:
        if name in (metric.info.id, metric.info.id.partition("@")[0]):
            return metric
    if former := next((info for info in FORMER if name in (info.id, info.id.partition("@")[0])), None):
        now = next((m.info.id for m in METRICS if m.info.id.partition("@")[0] == former.id.partition("@")[0]), None)
        fix = (
            f"name {now}, its present version"
            if now
            else "docs/metrics.md says why; `ipa-bench metrics` lists the rest"
        )
        raise UserError(f"{former.id} is no longer computed", fix)
    near = difflib.get_close_matches(name, [m.info.id.partition("@")[0] for m in METRICS], 1)
    fix = f"did you mean {near[0]!r}?" if near else "`ipa-bench metrics` lists them"
    raise UserError(f"there is no metric called {name!r}", fix)
