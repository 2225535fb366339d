"""How sharp a hand is: Laplacian energy of its box, resampled to a fixed grid so that resolution does not matter."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ipa_bench.types import Float32

GRID = 128
MARGIN = 0.1


def sharpness(image: Image.Image, landmarks: Float32) -> float:
    """Mean squared 5-point Laplacian of the luma over the luma's variance, dimensionless, >= 0.

    ``landmarks`` ``[21, 2]`` px of ``image``. The landmarks' bounding box, 10 % wider on each side, is resampled to
    128 × 128 (antialiased): a blurred or upscaled hand has less energy, noise and ringing have more. Dividing by the
    variance makes the number independent of contrast and skin tone. The operator is that of Pech-Pacheco et al.,
    ICPR 2000.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    pad = MARGIN * float((high - low).max())
    left, top = np.maximum(low - pad, 0)
    right, bottom = np.minimum(high + pad, [image.width, image.height])
    if right - left < 2 or bottom - top < 2:
        return 0.0
    # Crop first: converting the whole frame to luma costs more than everything else here.
    x0, y0, x1, y1 = int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))
    part = image.crop((x0, y0, x1, y1)).convert("L")
    box = (left - x0, top - y0, right - x0, bottom - y0)
    luma = np.asarray(part.resize((GRID, GRID), Image.Resampling.BILINEAR, box=box), dtype=np.float32)
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    # One grey level of variance keeps a flat patch from dividing by zero.
    return float(np.mean(laplacian**2) / (luma.var() + 1.0))
