"""A folder of arrays by key, shared by every run: what was observed once is not observed again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench import weights
from ipa_bench.files import replacing

Arrays = Mapping[str, Any]


class Cache:
    """Arrays by (kind, key). Atomic writes; an unreadable entry is none; a full disk costs speed, not results."""

    def __init__(self, folder: Path | None = None) -> None:
        """``folder`` defaults to ``observations`` in the tool's cache folder (``IPA_BENCH_CACHE``)."""
        self.folder = folder or weights.cache_dir() / "observations"
        #: whether what is put here is kept
        self.writable = True

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """The arrays of an entry, or None."""
        try:
            with self._path(kind, key).open("rb") as file, np.load(file, allow_pickle=False) as entry:
                return dict(entry)
        except FileNotFoundError:
            return None
        except Exception:  # whatever a damaged file makes numpy and zipfile raise, it is not an entry
            return None

    def put(self, kind: str, key: str, arrays: Arrays) -> None:
        """Store an entry. Where that fails, say so once and go on without."""
        if not self.writable:
            return
        path = self._path(kind, key)
        content = BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_bytes(content.getbuffer())
        except OSError as error:
            self.writable = False
            warnings.warn(f"observations are not cached: {error}", RuntimeWarning, stacklevel=2)

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / key[:2] / f"{key}.npz"


def digest(*parts: object) -> str:
    """sha256 of values that JSON can hold, as a cache key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
