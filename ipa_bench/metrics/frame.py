"""Pixels against the ground truth: the whole frame, the hands, and the rest (what alignment cost elsewhere)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ipa_bench.metrics.base import Evidence, Measured, unknown
from ipa_bench.types import Float64, PixelStats

#: PSNR of identical pixels, by convention
PERFECT_DB = 100.0


def psnr_db(mse: Float[ndarray, "T"]) -> Float[ndarray, "T"]:
    """10 log10(255² / mse) in dB, at most 100; NaN stays NaN. ``mse`` on the 0-255² scale."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(10 * np.log10(255.0**2 / mse), PERFECT_DB))


def psnr(evidence: Evidence, region: str) -> Measured:
    """Mean over frames of the peak signal-to-noise ratio of the region, dB."""
    return _mean(evidence, region, lambda p: psnr_db(p.mse[region]))


def ssim(evidence: Evidence, region: str) -> Measured:
    """Mean over frames of the structural similarity of the region's luma, in [-1, 1] (Wang et al. 2004)."""
    return _mean(evidence, region, lambda p: p.ssim[region])


def l1(evidence: Evidence, region: str) -> Measured:
    """Mean absolute difference of the region, on a scale of 0 to 1."""
    return _mean(evidence, region, lambda p: p.l1[region] / 255.0)


def lpips(evidence: Evidence, region: str, network: str) -> Measured:
    """Mean over frames of the region's LPIPS by a network (Zhang et al. 2018), >= 0, 0 for equal pixels.

    How a region is cut out of LPIPS: :mod:`ipa_bench.observers.perceptual`.
    """
    found = evidence.perceptual.get(network)
    if found is None:
        return unknown(evidence.no_perceptual.get(network, evidence.no_pixels))
    return _over_frames(found.lpips[region], region)


def _mean(evidence: Evidence, region: str, series_of: Callable[[PixelStats], Float64]) -> Measured:
    return unknown(evidence.no_pixels) if evidence.pixels is None else _over_frames(series_of(evidence.pixels), region)


def _over_frames(values: Float64, region: str) -> Measured:
    """Mean of ``values`` ``[T]`` over the frames that have one, or why none has."""
    series = np.asarray(values, np.float64)
    valid = np.isfinite(series)
    if not valid.any():
        reasons = {"hand": "the ground truth shows no hand", "rest": "the hands fill the frame"}
        return unknown(reasons.get(region, "no frames are shared") if len(series) else "no frames are shared")
    return Measured(float(series[valid].mean()), series=series)
