"""What is written down of rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOG = "rounds.jsonl"


def summary(out: Path) -> dict[str, Any]:
    """What the log says of all rounds: how many there were, their clips, and the first and last mean of each reward."""
    if not (out / LOG).exists():
        return {}
    lines = [json.loads(text) for text in (out / LOG).read_text().splitlines()]
    first, last = (lines[place]["rewards"] if lines else {} for place in (0, -1))
    ends = {name: [value, last.get(name)] for name, value in first.items()}
    return {"rounds": len(lines), "clips": sum(line["clips"] for line in lines), "rewards": ends}
