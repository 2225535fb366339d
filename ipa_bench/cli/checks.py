"""Is this machine able to run the suite? Facts and fixes; the verb ``doctor`` prints them.

Whatever may crash an interpreter (torchvision beside a CPU-only torch, a runtime that lacks a shared library) is
imported in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ipa_bench import weights
from ipa_bench.engine import processes
from ipa_bench.errors import UserError

#: Version of the tested set (constraints.txt), and the oldest that can work.
_TESTED_TORCH, _OLDEST_TORCH = "2.13.0", (2, 10)
_OLDEST_NUMPY = (1, 26)
_PROBE_SECONDS = 120
#: codecs that videos are read and written with, as PyAV names them; ``w`` encodes
CODECS = (("libx264", "w"), ("h264", "r"), ("hevc", "r"), ("vp9", "r"))

_TORCH = """
import json, torch
gpus = []
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        gpus.append(f"{device.name}, {device.total_memory / 2**30:.0f} GiB")
print(json.dumps(gpus))
"""
# name of each codec -> whether PyAV has it
_CODECS = """
import json, av
def has(name, mode):
    try:
        av.Codec(name, mode)
    except ValueError:
        return False
    return True
print(json.dumps([av.__version__, {name: has(name, mode) for name, mode in CODECS}]))
"""
_TORCHVISION = "import torch, torchvision; print(torchvision.__version__)"
_LITERT = "from ai_edge_litert.interpreter import Interpreter; print('imports')"
# the shared library, which needs EGL and GLES, is loaded only when the first image is made
_MEDIAPIPE = """
import numpy, mediapipe
mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=numpy.zeros((4, 4, 3), numpy.uint8))
print("starts")
"""


@dataclass(frozen=True)
class Check:
    """One finding. ``ok`` None is a note: neither good nor bad, or optional and absent."""

    name: str
    ok: bool | None
    detail: str
    #: what to do; empty where there is nothing to do
    fix: str = ""


def checks() -> list[Check]:
    """Every finding, in the order to print them. Takes a few seconds; raises nothing and downloads nothing."""
    codecs = _CODECS.replace("CODECS", repr(CODECS))
    with ThreadPoolExecutor(max_workers=4) as pool:
        probes = pool.map(_probe, (_TORCH, _TORCHVISION, _LITERT, _MEDIAPIPE, codecs))
        torch, torchvision, litert, mediapipe, av = probes
    return [
        _python(),
        _cores(),
        _memory(),
        _torch(torch),
        _gpu(torch),
        _torchvision(torchvision),
        _numpy(),
        *_codecs(av),
        _litert(litert),
        _mediapipe(mediapipe),
        _cache(),
        *_weights(),
    ]


@dataclass(frozen=True)
class _Answer:
    """Of a probe: what it printed, or its last line of error."""

    output: str | None
    error: str = ""


def _probe(code: str) -> _Answer:
    command = [sys.executable, *processes.safe(), "-c", code]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Answer(None, str(error))
    if run.returncode == 0:
        return _Answer(run.stdout.strip())
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    return _Answer(None, lines[-1] if lines else f"ended with status {run.returncode}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _at_least(version: str, oldest: tuple[int, int]) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= oldest


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check(
        "python", ok, f"{platform.python_version()} at {sys.executable}", "" if ok else "use Python 3.11 or newer"
    )


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", None, f"{usable} usable of {os.cpu_count()}")


def _memory() -> Check:
    import psutil  # type: ignore[import-untyped, unused-ignore]

    memory = psutil.virtual_memory()
    enough = memory.available >= 2 * 2**30
    detail = f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f} GiB"
    return Check("memory", enough, detail, "" if enough else "close other programs: 2 GiB free are needed")


def _torch(answer: _Answer) -> Check:
    version = _version("torch")
    oldest = ".".join(map(str, _OLDEST_TORCH))
    if version is None or answer.output is None:
        return Check("torch", False, answer.error or "not installed", f"pip install 'torch>={oldest}'")
    if not _at_least(version, _OLDEST_TORCH):
        return Check("torch", False, f"{version} is too old", f"pip install 'torch>={oldest}'")
    if version.split("+")[0] == _TESTED_TORCH:
        return Check("torch", True, f"{version}, the tested version")
    return Check("torch", None, f"{version}; tested with {_TESTED_TORCH}", "install with the project's constraints.txt")


def _gpu(answer: _Answer) -> Check:
    gpus = json.loads(answer.output) if answer.output else []
    return Check(
        "gpu", True if gpus else None, "; ".join(gpus) or "none that torch can use: everything runs on the CPU"
    )


def _torchvision(answer: _Answer) -> Check:
    version = _version("torchvision")
    if version is None:
        return Check("torchvision", True, "not installed, not needed")
    if answer.output is None:
        fix = "pip uninstall torchvision (it also breaks diffusers and transformers); nothing here needs it"
        return Check("torchvision", False, f"{version} does not import: {answer.error}", fix)
    return Check("torchvision", None, f"{version} imports; not needed")


def _numpy() -> Check:
    version = _version("numpy") or "not installed"
    ok = _at_least(version, _OLDEST_NUMPY)
    return Check("numpy", ok, version, "" if ok else "pip install 'numpy>=1.26'")


def _codecs(answer: _Answer) -> Iterator[Check]:
    if answer.output is None:
        yield Check("PyAV", False, answer.error, "pip install --force-reinstall av")
        return
    version, found = json.loads(answer.output)
    for name, mode in CODECS:
        what = f"{name} {'encoder' if mode == 'w' else 'decoder'}"
        if found[name]:
            yield Check(what, True, f"in PyAV {version}")
        else:
            yield Check(what, False, f"missing from PyAV {version}", "pip install --force-reinstall av")


def _litert(answer: _Answer) -> Check:
    version = _version("ai-edge-litert")
    if answer.output is None:
        return Check("ai-edge-litert", False, answer.error, "pip install --upgrade ai-edge-litert")
    return Check("ai-edge-litert", True, version or "imports")


def _mediapipe(answer: _Answer) -> Check:
    version = _version("mediapipe")
    if version is None:
        return Check(
            "mediapipe", None, "not installed; a second hand observer, optional", "pip install 'ipa-bench[mediapipe]'"
        )
    if answer.output is None:
        fix = "on Debian or Ubuntu: apt-get install libegl1 libgles2"
        return Check("mediapipe", None, f"{version} does not start: {answer.error}", fix)
    return Check("mediapipe", True, version)


def _cache() -> Check:
    folder = weights.cache_dir()
    elsewhere = "set IPA_BENCH_CACHE to a writable folder with 1 GB free"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("cache folder", False, f"cannot write to {folder}: {error.strerror}", elsewhere)
    enough = free >= 10**9
    return Check("cache folder", enough, f"{folder}, {free / 1e9:.1f} GB free", "" if enough else elsewhere)


def _weights() -> Iterator[Check]:
    """The models without which no hand is seen; the others say themselves what they lack."""
    needed = [weight.name for weight in weights.WEIGHTS if "hands" in weight.used_by]
    try:
        found = weights.statuses(needed)
    except UserError as error:
        yield Check("weights", False, error.problem, error.fix)
        return
    for status in found:
        ok = status.state == "ok"
        yield Check(
            f"weights {status.weight.name}", ok, f"verified, {status.path}" if ok else status.problem, status.fix
        )
