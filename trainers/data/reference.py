"""Errors of the frozen reference, kept on disk: they depend on clip, noise and t, and never change."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class ReferenceErrors:
    """float32 errors by name, in a folder of JSON lines that several processes may add to."""

    def __init__(self, folder: Path) -> None:
        """Raises nothing for lines that a kill cut off: those are computed again."""
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float] = {}
        for file in sorted(folder.glob("*.jsonl")):
            for line in file.read_bytes().splitlines():
                with suppress(ValueError, TypeError, KeyError):
                    entry = json.loads(line)
                    name, error = str(entry["name"]), float(entry["error"])
                    if math.isfinite(error):
                        self._known[name] = error
        # A file of its own for each process; a torn last line stays the last of its file.
        self._file = folder / f"{os.getpid()}-{os.urandom(4).hex()}.jsonl"

    def __len__(self) -> int:
        """Number of known errors."""
        return len(self._known)

    def get(self, name: str) -> float | None:
        """An error that is known, or None."""
        return self._known.get(name)

    def add(self, names: Sequence[str], errors: Sequence[float]) -> None:
        """Keep errors that are finite; float32 values survive the way through JSON to the bit.

        What cannot be written is known to this process alone.
        """
        new = {n: e for n, e in zip(names, errors, strict=True) if n not in self._known and math.isfinite(e)}
        self._known.update(new)
        with suppress(OSError), self._file.open("a") as file:
            file.write("".join(json.dumps({"name": name, "error": error}) + "\n" for name, error in new.items()))
