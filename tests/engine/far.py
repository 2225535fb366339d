"""What workers on a Ray cluster do in tests. They import this file to do it: it imports little."""

import os
import signal
import time

from ipa_bench.errors import UserError

_STARTED = []


def start(value):
    _STARTED.append(value)


def square(x):
    time.sleep(0.02 * (x % 3))
    return x * x, list(_STARTED)


def meets(folder, x):
    """Waits for a second worker, however busy the machine is that starts it."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return square(x)


def fails(x):
    if x == 5:
        raise UserError(f"item {x} is bad", "mend it")
    return x


def bad_start():
    raise UserError("the model file is missing", "fetch it")


def sleeps(x):
    time.sleep(60 if x else 0)
    return x


def mark(folder, x):
    """Leaves a mark for each time it is tried; the first worker that has item 3 dies of it."""
    tries = len(list(folder.glob(f"{x}.*"))) + 1
    (folder / f"{x}.{tries}").touch()
    if x == 3 and tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x, tries


def deadly(folder, x):
    if x == "item four":
        (folder / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x
