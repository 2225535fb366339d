"""Pixels against the ground truth: the whole frame, the hands, and the rest (what alignment cost elsewhere)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ipa_bench.metrics.base import Evidence, Measured, compared, unknown
from ipa_bench.types import Float64

#: PSNR of identical pixels, by convention
PERFECT_DB = 100.0


def psnr_db(mse: Float[ndarray, "T"]) -> Float[ndarray, "T"]:
    """10 log10(255² / mse) in dB, at most 100; NaN stays NaN. ``mse`` on the 0-255² scale."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(10 * np.log10(255.0**2 / mse), PERFECT_DB))


def psnr(evidence: Evidence, region: str) -> Measured:
    """Mean over frames of the peak signal-to-noise ratio of the region, dB."""
    found = compared(evidence, "pixels")
    return found if isinstance(found, Measured) else _over_frames(psnr_db(found[f"mse.{region}"]), region)


def ssim(evidence: Evidence, region: str) -> Measured:
    """Mean over frames of the structural similarity of the region's luma, in [-1, 1] (Wang et al. 2004)."""
    found = compared(evidence, "pixels")
    return found if isinstance(found, Measured) else _over_frames(found[f"ssim.{region}"], region)


def l1(evidence: Evidence, region: str) -> Measured:
    """Mean absolute difference of the region, on a scale of 0 to 1."""
    found = compared(evidence, "pixels")
    return found if isinstance(found, Measured) else _over_frames(found[f"l1.{region}"] / 255.0, region)


def lpips(evidence: Evidence, region: str, network: str) -> Measured:
    """Mean over frames of the region's LPIPS by a network (Zhang et al. 2018), >= 0, 0 for equal pixels.

    How a region is cut out of LPIPS: :mod:`ipa_bench.observers.perceptual`.
    """
    found = compared(evidence, network)
    return found if isinstance(found, Measured) else _over_frames(found[region], region)


def _over_frames(values: Float64, region: str) -> Measured:
    """Mean of ``values`` ``[T]`` over the frames that have one, or why none has."""
    series = np.asarray(values, np.float64)
    valid = np.isfinite(series)
    if not valid.any():
        reasons = {"hand": "the ground truth shows no hand", "rest": "the hands fill the frame"}
        return unknown(reasons.get(region, "no frames are shared") if len(series) else "no frames are shared")
    return Measured(float(series[valid].mean()), series=series)
