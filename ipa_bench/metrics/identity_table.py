"""The metrics of who is who, by each network that tells faces apart: a literal table, a part of that of all metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ipa_bench.metrics import identity
from ipa_bench.metrics.base import Measured, Metric
from ipa_bench.metrics.people import DLIB, SFACE, Network, People
from ipa_bench.types import Better, MetricInfo


@dataclass(frozen=True)
class _Who:
    """A line, but for the network."""

    name: str
    unit: str
    better: Better
    measure: Callable[[People], Measured]
    source: str
    blind_spot: str
    needs: Literal["driving", "ground_truth"] = "driving"
    has_floor: bool = True


_SIZES = "YuNet's points, reference shrunk to the face's size, from 24 px"
_NETWORKS = {
    SFACE: f"likeness: cosine of SFace (Zhong et al., arXiv 2205.12010), {_SIZES}",
    DLIB: f"likeness: 1 - distance of dlib's ResNet-29 (D. King), {_SIZES}",
}
_LINES = (
    _Who(
        "similarity",
        "likeness",
        "higher",
        identity.similarity,
        "face against the reference picture, mean over frames, a missing face as 0",
        "body, clothes; a head that turns as it should is less like (see identity.gap)",
    ),
    _Who(
        "coverage",
        "share",
        "higher",
        identity.coverage,
        "frames in which a face that is due is found, of any size",
        "whose face it is",
        has_floor=False,
    ),
    _Who(
        "margin",
        "likeness",
        "higher",
        identity.margin,
        "own reference less the most similar other, a missing face as 0",
        "strangers; a case of one person has none",
    ),
    _Who(
        "top1",
        "share",
        "higher",
        identity.top1,
        "frames in which no other reference is more alike",
        "strangers, blends up to a half; a case of one person has none",
        has_floor=False,
    ),
    _Who(
        "swap",
        "share",
        "lower",
        identity.swap,
        "faces that are another's: one assignment a clip, changes of more than 0.1, with hysteresis",
        "strangers; people who change places while hidden; a case of one person has none",
        has_floor=False,
    ),
    _Who(
        "swaps",
        "changes",
        "lower",
        identity.swaps,
        "times that people exchange their faces, as identity.swap has it",
        "how long it lasts; as identity.swap",
        has_floor=False,
    ),
    _Who(
        "duplicate",
        "share",
        "lower",
        identity.duplicate,
        "frames with one person's face twice, both above the network's threshold",
        "look-alikes below the threshold",
        has_floor=False,
    ),
    _Who(
        "extra",
        "faces a frame",
        "lower",
        identity.extra,
        "faces beyond the people of the case, of tracks of three frames or more",
        "one missing and one too many in the same frame",
        has_floor=False,
    ),
    _Who(
        "drift",
        "1/s",
        "lower",
        identity.drift,
        "similarity lost each second, less what the ground truth loses; least squares",
        "what is lost at once",
    ),
    _Who(
        "gap",
        "likeness",
        "lower",
        identity.gap,
        "what the ground truth's face is more like its reference at the same time, a missing face as 0",
        "references that are unlike the ground truth",
        "ground_truth",
    ),
    _Who(
        "copy",
        "-1 to 1",
        "lower",
        identity.copied,
        "nearer to the reference picture (1) or to the ground truth (-1), as in MultiID-Bench (WithAnyone)",
        "a reference that is a frame of the clip itself",
        "ground_truth",
    ),
    _Who(
        "facesim",
        "likeness",
        "higher",
        identity.facesim,
        "as ConsisID's FaceSim is coded: largest face of 16 frames, those without one skipped; one person",
        "hidden faces, which raise it",
    ),
)


def _metric(line: _Who, network: Network) -> Metric:
    info = MetricInfo(
        f"identity.{line.name}.{network.name}@1",
        line.unit,
        line.better,
        f"{line.source}; {_NETWORKS[network]}",
        line.blind_spot,
        line.needs,
        "video",
        line.has_floor,
        (network.name,),
    )
    measure = partial(identity.of_evidence, measure=line.measure, network=network)
    return Metric(info, measure, (f"faces.{network.name}", f"reference.{network.name}"), "truth", asked=True)


#: computed where a suite names them, those by SFace also where it has people by name
IDENTITY: tuple[Metric, ...] = tuple(_metric(line, network) for network in _NETWORKS for line in _LINES)
