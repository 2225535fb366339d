"""What is written down of rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG = "rounds.jsonl"


def summary(out: Path) -> Mapping[str, Any]:
    """What the log says of all rounds: how many there were, their clips, and the first and last mean reward."""
    if not (out / LOG).exists():
        return {}
    lines = [json.loads(text) for text in (out / LOG).read_text().splitlines()]
    counts = {"rounds": len(lines), "clips": sum(line["clips"] for line in lines)}
    return counts | ({"reward": [lines[0]["reward"], lines[-1]["reward"]]} if lines else {})
