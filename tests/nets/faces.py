"""Real faces with OpenCV's and dlib's own numbers for them."""

import io
import json
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[1] / "references"
ABOUT = json.loads((FOLDER / "faces_golden.json").read_text())
NAMES = tuple(ABOUT["pixels"])


@cache
def _arrays():
    with np.load(FOLDER / "faces_golden.npz") as arrays:
        return dict(arrays)


@cache
def picture(name):
    """uint8 RGB [H, W, 3], the very pixels that the numbers belong to."""
    pixels = np.asarray(Image.open(io.BytesIO(_arrays()[f"{name}.jpeg"].tobytes())).convert("RGB"))
    assert sha256(pixels.tobytes()).hexdigest() == ABOUT["pixels"][name], "this JPEG decoder makes other pixels"
    return pixels


def opencv_faces(name):
    """OpenCV's boxes [n, 4], points [n, 5, 2] and scores [n]."""
    rows = _arrays()[f"{name}.faces"]
    return rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14]


def embeddings(name, net):
    """The numbers [n, 128] of ``net``'s own runtime, or None."""
    return _arrays().get(f"{name}.{net}")


def cosines(one, other):
    """Row by row."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def pairs(net, embedded, compare):
    """Every pair of pictures of one person, and of two of the four people, as ``compare`` sees them: two arrays."""
    faces = [(name.split("_")[0], embedded(net, name)[0]) for name in NAMES if name not in ("two", "four")]
    same, different = [], []
    for index, (who, one) in enumerate(faces):
        for other_who, other in faces[:index]:
            (same if who == other_who else different).append(compare(one, other))
    return np.array(same), np.array(different)


def auc(same, different):
    """How often a pair of one person is the more alike, of all pairs of pairs."""
    return float(np.mean(same[:, None] > different[None]))
