"""Files as values: every number and word of a text, every array by its hash, a video by its bytes and its pixels."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.behaviour import left_out

#: path inside a file -> value
Values = dict[str, Any]

TEXTS = {".md", ".txt", ".html", ".svg", ".js", ".toml"}
#: arrays up to this size are kept as values, not as a hash
FEW = 16


def read(work: Path, words: Mapping[str, str]) -> dict[str, Values]:
    """Every file of a folder. ``words``: what stands in texts, such as a folder's place, and what to read instead."""
    # in the order in which they were finished: for files whose names differ from run to run
    paths = sorted((path for path in work.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    numbers: Counter[str] = Counter()
    found: dict[str, Values] = {}
    for path in paths:
        if path.suffix == ".tflite":
            continue
        name = path.relative_to(work).as_posix()
        for pattern, stays in left_out.NAMES:
            name = re.sub(pattern, stays, name)
        if "{}" in name:
            numbers[name] += 1
            name = name.format(numbers[name])
        found[name] = values(path, words)
    return dict(sorted(found.items()))


def values(path: Path, words: Mapping[str, str]) -> Values:
    """What is in a file, by the rules of its kind."""
    kind = path.suffix
    if kind in TEXTS | {".json", ".jsonl", ".csv"}:
        text = path.read_text()
        for word, instead in words.items():
            text = text.replace(word, instead)
        if kind in TEXTS:
            return {"text": text}
        if kind == ".json":
            return dict(_flat(json.loads(text)))
        if kind == ".jsonl":
            return dict(_flat([json.loads(line) for line in text.splitlines()]))
        return dict(_flat(list(csv.DictReader(text.splitlines()))))
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(_flat({key: arrays[key] for key in arrays.files}))
    if kind == ".pt":
        import torch

        return dict(_flat(torch.load(path, weights_only=True, map_location="cpu")))
    whole = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if kind == ".mp4":
        return whole | _pixels(path)
    if kind == ".safetensors":
        from safetensors.torch import load_file

        return whole | dict(_flat(load_file(path)))
    return whole


def _flat(content: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and sequences by their paths; of arrays type, shape and hash, or what is in them."""
    if hasattr(content, "detach"):  # a tensor; NumPy does not know bf16
        import torch

        whole = content.detach().contiguous()
        content = whole.view(torch.uint8).numpy() if whole.ndim else whole.float().numpy()
        yield f"{at}/type", f"{whole.dtype} {list(whole.shape)}"
    if isinstance(content, np.ndarray):
        if content.size <= FEW:
            yield at, content.tolist()
        else:
            digest = hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()
            yield at, f"{content.dtype} {list(content.shape)} {digest}"
    elif isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _flat(value, f"{at}/{key}")
    elif isinstance(content, list | tuple) and content:
        for index, value in enumerate(content):
            yield from _flat(value, f"{at}/{index}")
    else:
        yield at, content


def _pixels(path: Path) -> Values:
    """Of a video: how many frames it has, and the hash of what they show."""
    import av

    digest, count = hashlib.sha256(), 0
    with av.open(str(path)) as video:
        for frame in video.decode(video=0):
            digest.update(frame.to_ndarray(format="rgb24").tobytes())
            count += 1
    return {"frames": count, "pixels": digest.hexdigest()}
