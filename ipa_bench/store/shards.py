"""Append-only JSON lines in a folder, a file of its own for each writing process."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ipa_bench.files import sync_folder, writing


class Shards:
    """Lines on disk: a crash can tear the last one of one file and nothing else."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is there before the first :meth:`append`."""
        self.folder = folder
        self._shard: tuple[int, int] | None = None  # (pid that opened it, file descriptor)

    def append(self, line: bytes) -> None:
        """Write one line, without its end, to this process's file; on return it is on the disk.

        Raises :class:`UserError` when the disk is full or cannot be written; the file then holds no part of it.
        """
        with writing(self.folder.parent):
            descriptor = self._descriptor()
            end = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line + b"\n") != len(line) + 1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                self.close()  # should half a line have stayed, the next one begins a new file
                raise

    def close(self) -> None:
        """Close this process's file. Appending again begins another one."""
        if self._shard is not None and self._shard[0] == os.getpid():
            os.close(self._shard[1])
        self._shard = None

    def lines(self) -> Iterator[bytes]:
        """Every line that is not empty, without its end; those of the newest file last."""
        for shard in sorted(self.folder.glob("*.jsonl")):
            yield from (line for line in shard.read_bytes().split(b"\n") if line.strip())

    def _descriptor(self) -> int:
        """The file of this process; a forked child does not write to its parent's."""
        if self._shard is None or self._shard[0] != os.getpid():
            # Names sort by time of creation, so that the newest file wins where two hold the same thing.
            name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            self._shard = (os.getpid(), os.open(self.folder / name, flags, 0o644))
            sync_folder(self.folder)
        return self._shard[1]
