"""Files: written whole or not at all, named by what is in them, read, found after a folder has moved."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ipa_bench.errors import Unscorable, UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: diffusers' name of a LoRA's file in a folder
LORA_FILE = "pytorch_lora_weights.safetensors"
#: nanoseconds; a file that changed less than this before it was hashed may change again under the same time stamp
_FRESH = 2 * 10**9
T = TypeVar("T")

# ---------------------------------------------------------------------------------------------------------------------
# writing


@contextmanager
def replacing(path: Path, *, sync: bool = False, alone: bool = False) -> Iterator[Path]:
    """A name beside ``path`` to write under: it becomes ``path`` when all went well, and goes away when not.

    ``sync``: the content is on the disk before the name is. ``alone``: only one process ever writes ``path``, so that
    the name is the same each time and what a killed process left of a large file is written over. An ``OSError`` is
    the caller's to explain; :func:`writing` does.
    """
    part = path.with_name(f"{path.stem}.part" if alone else f".{uuid.uuid4().hex}.part")
    try:
        yield part
        if sync:
            _sync(part, os.O_RDWR)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):  # what went wrong is what the caller must hear
            part.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole: under another name in the same folder, synced, then renamed over ``path``.

    Raises :class:`UserError` when the disk is full or the folder cannot be written; ``path`` is then what it was.
    """
    with writing(path.parent), replacing(path, sync=True) as part:
        part.write_bytes(content)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusal into something the user can mend."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"no room left to write in {folder}", "free some space and run again: it resumes") from None
        reason = error.strerror or str(error)
        raise UserError(f"cannot write in {folder}: {reason}", "choose a folder that can be written to") from None


def sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the system can sync a folder."""
    with suppress(OSError):
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, how: int) -> None:
    descriptor = os.open(path, how)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------------------
# hashing

#: (device, file number, bytes, written, changed) -> sha256: a copy under the same name has another file number or
#: another time of change, also where its time of writing was set back
_known: dict[tuple[int, ...], str] = {}


def sha256_of(path: Path | str) -> str:
    """sha256 of a file's bytes in 64 hexadecimal digits; read once in a process as long as the file stays the same.

    Raises ``OSError`` where it cannot be read.
    """
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        key = _key(found)
        known = _known.get(key)
        if known is None:
            known = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _FRESH:
                _known[key] = known
    return known


def _key(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def file_sha256(path: Path | str) -> str:
    """:func:`sha256_of`. Raises :class:`Unscorable` where the file cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise Unscorable(f"{Path(path).name}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Read:
    """What a process that has read a file can tell others that have it too."""

    sha256: str
    bytes: int
    #: nanoseconds
    written: int

    @classmethod
    def of(cls, path: Path) -> Read | None:
        """The file is read, where it has not been; None where it cannot be."""
        try:
            about = os.stat(path)
            return cls(sha256_of(path), about.st_size, about.st_mtime_ns)
        except OSError:
            return None

    def taken_over(self, path: Path) -> None:
        """Know the hash of ``path`` without reading it, where it is the same file by length and time of writing."""
        with suppress(OSError):
            found = os.stat(path)
            still = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _FRESH
            if still and (found.st_size, found.st_mtime_ns) == (self.bytes, self.written):
                _known[_key(found)] = self.sha256


def forget_hashes() -> None:
    """Read every file again that is asked for."""
    _known.clear()


# ---------------------------------------------------------------------------------------------------------------------
# reading


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is nothing that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def read_checked(path: Path, schema: TypeAdapter[T], *, wrong: str, fix: str, absent: str) -> T:
    """What a JSON file holds, as a type that pydantic checks.

    Raises :class:`UserError`: "PATH ``wrong``: where: what" with ``fix``, or "cannot read PATH" with ``absent``.
    """
    from ipa_bench.config.fields import checked

    try:
        with checked(f"{path} {wrong}", fix):
            return schema.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", absent) from None


def located(text: str | None, folder: Path) -> Path | None:
    """A run's path: absolute, relative to the run folder, or else to the working directory; None for an empty text.

    The videos that a run made move with its folder.
    """
    if not text:
        return None
    path = Path(text)
    moved = folder / "videos" / path.parent.name / path.name
    for found in (folder / path, path, moved):  # folder / an absolute path is that path
        if found.exists():
            return found
    return path
