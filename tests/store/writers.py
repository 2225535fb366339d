"""What processes do that write to a run folder, forked by :mod:`tests.forked`: the folder is the first argument."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from ipa_bench.errors import UserError
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.types import Score


def _opened() -> RunStore:
    folder = Path(sys.argv[1])
    return RunStore.open(folder, RunStore.load(folder).header)


def on_and_on() -> None:
    """Append records whose cases begin with the second argument, and say each number once it is on the disk."""
    store = _opened()
    for i in range(100_000):
        case = f"{sys.argv[2]}-{i}"
        notes = ("x" * (i * 37 % 5000),)
        store.append(UnitRecord(case, 0, "A", notes=notes, scores=(Score(case, 0, "A", "hand.pck@1", i / 7),)))
        print(i, flush=True)


def forking() -> None:
    """Append a record, then one each with a child."""
    store = _opened()
    store.append(UnitRecord("parent", 0, "A"))
    child = os.fork()
    store.append(UnitRecord("child" if child == 0 else "parent", 1, "A"))
    if child:
        os.waitpid(child, 0)


def out_of_room() -> None:
    """Append until a file may not grow, say how many there are and why no more, then one more with room again."""
    store = _opened()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    written = 0
    try:
        for written in range(100):
            store.append(UnitRecord(f"before-{written}", 0, "A"))
    except UserError as error:
        print(written, error.problem)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.append(UnitRecord("after", 0, "A"))
