"""What happens to pictures of hands whether they are right or not: crops that are off, light, blur, grain, codecs."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from ipa_bench.observers.mediapipe.litert import Roi, warp
from ipa_bench.types import Float32, UInt8

#: side of the landmark net's input
SIDE = 224
_Rng = np.random.Generator


def cropped(pixels: Float32, share: float, rng: _Rng) -> UInt8:
    """The middle ``share`` of a canvas, moved, turned and scaled as by landmarks that are off; maybe mirrored."""
    side = pixels.shape[0]
    x, y = side / 2 + rng.normal(0, 0.025, 2) * side * share
    roi = Roi(float(x), float(y), side * share * float(np.exp(rng.normal(0, 0.06))), float(rng.normal(0, 0.12)))
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(np.rint(warp(image, roi, SIDE) * 255), np.uint8)


def spoiled(image: UInt8, rng: _Rng, much: float = 1.0) -> UInt8:
    """Light, colour, blur, motion, resolution, grain, JPEG, each with a chance; ``much`` scales the chances."""

    def happens(chance: float) -> bool:
        return bool(rng.random() < chance * much)

    pixels = image.astype(np.float32)
    if happens(0.6):
        pixels = _light(pixels, rng)
    if happens(0.35):
        pixels = _moved(pixels, float(rng.uniform(2, 22)), float(rng.uniform(0, np.pi)))
    picture = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    if happens(0.3):
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 2.5))))
    if happens(0.4):
        side = int(np.exp(rng.uniform(np.log(56), np.log(200))))
        down, up = rng.choice([Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC], 2)
        picture = picture.resize((side, side), Image.Resampling(down)).resize((SIDE, SIDE), Image.Resampling(up))
    if happens(0.25):
        noisy = np.asarray(picture, np.float32) + rng.normal(0, rng.uniform(1, 10), (SIDE, SIDE, 3))
        picture = Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    if happens(0.5):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=int(rng.uniform(20, 92)))
        picture = Image.open(data)
    return np.asarray(picture.convert("RGB"))


def _light(pixels: Float32, rng: _Rng) -> Float32:
    """Gamma, contrast, and every colour turned about the grey axis."""
    shaped = 255 * (np.clip(pixels, 0, 255) / 255) ** float(np.exp(rng.normal(0, 0.25)))
    shaped = (shaped - shaped.mean()) * float(np.exp(rng.normal(0, 0.15))) + shaped.mean() + float(rng.normal(0, 8))
    angle = float(rng.normal(0, 0.25))
    axis = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    rotate = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * axis + np.sin(angle) * cross
    return np.asarray(shaped @ rotate.T.astype(np.float32), np.float32)


def _moved(pixels: Float32, length: float, angle: float) -> Float32:
    """The mean of copies along a line of ``length`` px."""
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    steps = np.linspace(-0.5, 0.5, max(int(length / 2), 3)) * length
    total = np.zeros(pixels.shape, np.float32)
    for step in steps:
        affine = (1, 0, step * np.cos(angle), 0, 1, step * np.sin(angle))
        moved = image.transform(image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        total += np.asarray(moved, np.float32)
    edge = int(np.ceil(length / 2))  # Pillow fills with black outside
    mean = np.asarray(total / len(steps), np.float32)
    kept = pixels.copy()
    kept[edge:-edge, edge:-edge] = mean[edge:-edge, edge:-edge]
    return kept
