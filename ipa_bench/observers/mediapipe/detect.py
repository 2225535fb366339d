"""Single-shot detection as MediaPipe does it: decode boxes and keypoints, then weighted non-maximum suppression."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from ipa_bench.observers.mediapipe.litert import Net, Roi, sigmoid, warp
from ipa_bench.types import Float32

MIN_SCORE = 0.5
OVERLAP = 0.3


class Detection(NamedTuple):
    """``box`` float32 ``[4]`` (x0, y0, x1, y1) and ``keypoints`` ``[K, 2]`` in image pixels; ``score`` in [0, 1]."""

    box: Float32
    keypoints: Float32
    score: float


def detect(net: Net, anchors: Float32, image: Image.Image, roi: Roi, low: float = 0.0) -> list[Detection]:
    """Run a detector on an unrotated square of ``image``, best first. ``low`` is the model's value for black."""
    tensor = warp(image, roi, net.side)
    raw, logits = net(tensor * np.float32(1 - low) + np.float32(low))
    scores = sigmoid(logits[0, :, 0])
    keep = np.flatnonzero(scores >= MIN_SCORE)
    if not len(keep):
        return []
    points = raw[0, keep].reshape(len(keep), -1, 2) / net.side
    centre = points[:, 0] + anchors[keep]
    half = points[:, 1] / 2
    keypoints = points[:, 2:] + anchors[keep][:, None]
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    merged = _weighted_nms(boxes, keypoints, scores[keep])
    return [Detection(roi.to_image(m.box.reshape(2, 2)).reshape(4), roi.to_image(m.keypoints), m.score) for m in merged]


def _weighted_nms(boxes: Float32, keypoints: Float32, scores: Float32) -> list[Detection]:
    """Overlapping detections become one, averaged by score; the best score is kept."""
    result: list[Detection] = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        near = iou(boxes[order[0]], boxes[order]) > OVERLAP
        near[0] = True  # a box of no area overlaps nothing, itself included
        group, order = order[near], order[~near]
        weight = scores[group] / scores[group].sum()
        result.append(
            Detection(
                np.einsum("n,nd->d", weight, boxes[group]),
                np.einsum("n,nkd->kd", weight, keypoints[group]),
                float(scores[group[0]]),
            )
        )
    return result


def iou(box: Float32, boxes: Float32) -> Float32:
    """Intersection over union of ``box`` ``[4]`` with ``boxes`` ``[N, 4]``; 0 for boxes without area."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(np.clip(box[2:] - box[:2], 0, None)) + np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return np.asarray(inter / np.maximum(area - inter, 1e-9), dtype=np.float32)


def whole(image: Image.Image) -> Roi:
    """The square that letter-boxes the whole image."""
    return Roi(image.width / 2, image.height / 2, float(max(image.size)))


def upright(start: Float32, end: Float32) -> float:
    """Rotation that turns the direction ``start`` → ``end`` upward in the region's frame, in (−π, π]."""
    dx, dy = float(end[0] - start[0]), float(end[1] - start[1])
    angle = np.pi / 2 - np.arctan2(-dy, dx)
    return float(angle - 2 * np.pi * np.floor((angle + np.pi) / (2 * np.pi)))
