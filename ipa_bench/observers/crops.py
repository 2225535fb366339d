"""What is in a hand's box, on a fixed grid so that resolution does not matter: how sharp it is, how much it changes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ipa_bench.types import Float32

GRID = 128
COARSE = 32
MARGIN = 0.1


def sharpness(image: Image.Image, landmarks: Float32) -> float:
    """Mean squared 5-point Laplacian of the luma over the luma's variance, dimensionless, >= 0.

    ``landmarks`` ``[21, 2]`` px of ``image``. The landmarks' bounding box, 10 % wider on each side, is resampled to
    128 × 128 (antialiased): a blurred or upscaled hand has less energy, noise and ringing have more. Dividing by the
    variance makes the number independent of contrast and skin tone. The operator is that of Pech-Pacheco et al.,
    ICPR 2000.
    """
    luma = _luma(image, landmarks, GRID)
    if luma is None:
        return 0.0
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    # One grey level of variance keeps a flat patch from dividing by zero.
    return float(np.mean(laplacian**2) / (luma.var() + 1.0))


def change(image: Image.Image, before: Image.Image | None, landmarks: Float32) -> float:
    """Mean absolute luma difference from the frame before, in the same box, over the luma's standard deviation; >= 0.

    The box of :func:`sharpness` on a 32 × 32 grid, coarse enough to leave out grain. 0 for the first frame. A repeated
    frame has 0, whatever a landmark net makes of it.
    """
    if before is None or before.size != image.size:
        return 0.0
    now, then = _luma(image, landmarks, COARSE), _luma(before, landmarks, COARSE)
    if now is None or then is None:
        return 0.0
    return float(np.abs(now - then).mean() / (now.std() + 1.0))


def _luma(image: Image.Image, landmarks: Float32, grid: int) -> Float32 | None:
    """Luma ``[grid, grid]`` (0-255) of the landmarks' box with its margin; None where less than two pixels remain."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    pad = MARGIN * float((high - low).max())
    left, top = np.maximum(low - pad, 0)
    right, bottom = np.minimum(high + pad, [image.width, image.height])
    if right - left < 2 or bottom - top < 2:
        return None
    # Crop first: converting the whole frame to luma costs more than everything else here.
    x0, y0, x1, y1 = int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))
    part = image.crop((x0, y0, x1, y1)).convert("L")
    box = (left - x0, top - y0, right - x0, bottom - y0)
    return np.asarray(part.resize((grid, grid), Image.Resampling.BILINEAR, box=box), dtype=np.float32)
