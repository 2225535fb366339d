"""What processes of these tests do and wait for: it imports little, since each of them imports it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ipa_bench.cost.device import HostMemory

MB = 10**6


def wait_for(counter: Callable[[], int], count: int = 2) -> None:
    """Until the thread has looked (or searched) so many times more."""
    wanted, end = counter() + count, time.monotonic() + 100
    while counter() < wanted:
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_looks(memory: HostMemory, count: int = 2) -> None:
    """Until descendants that are new have been seen."""
    wait_for(lambda: memory.searches, 1)
    wait_for(lambda: memory.looks, count)


def hold(folder: Path) -> int:
    """In a worker: 150 MB, until told to let go."""
    array = np.ones(150 * MB, np.uint8)
    (folder / f"{os.getpid()}.here").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return int(array[0])
