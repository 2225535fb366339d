"""Between which values a metric can lie, by what it is measured in: no interval of its mean has business outside."""

from __future__ import annotations

from collections.abc import Mapping

from ipa_bench.types import MetricInfo

#: smallest and largest possible value; None where there is none
Bounds = tuple[float | None, float | None]
UNBOUNDED: Bounds = (None, None)

UNITS: Mapping[str, Bounds] = {
    "share": (0.0, 1.0),
    "0-1": (0.0, 1.0),
    "-1 to 1": (-1.0, 1.0),
    "index": (-1.0, 1.0),  # SSIM
    "hand sizes": (0.0, None),
    "|ln ratio|": (0.0, None),
    "seconds": (0.0, None),
    "frame widths": (0.0, None),
    "CV": (0.0, None),
    "LPIPS": (0.0, None),
    "distance": (0.0, None),
    "changes": (0.0, None),
    "faces a frame": (0.0, None),
    "fingers": (0.0, None),  # a distance
    "deviations": UNBOUNDED,
    "likeness": UNBOUNDED,  # of some metrics a difference of two; see NAMES
    "dB": UNBOUNDED,  # the cap at 100 dB is far from every clip that was made
    "1/s": UNBOUNDED,
}
#: metrics of a network whose unit says less than is known, by their names without network and version
NAMES: Mapping[str, Bounds] = {"identity.similarity": (-1.0, 1.0), "identity.facesim": (0.0, 1.0)}


def bounds(info: MetricInfo) -> Bounds:
    """The smallest and the largest value of a metric; unbounded for a unit that is not known here."""
    name = info.id.partition("@")[0]
    return NAMES.get(name.rpartition(".")[0], UNITS.get(info.unit, UNBOUNDED))
