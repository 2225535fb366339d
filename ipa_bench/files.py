"""Files: written whole or not at all, and found again after a folder has moved."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ipa_bench.errors import UserError

#: diffusers' name of a LoRA's file in a folder
LORA_FILE = "pytorch_lora_weights.safetensors"


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


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole: under another name in the same folder, synced, then renamed over ``path``.

    Raises :class:`UserError` when the disk is full or the folder cannot be written; ``path`` is then what it was.
    """
    with writing(path.parent):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


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
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
