"""Where the videos of a run lie, also after its folder has moved."""

from __future__ import annotations

from pathlib import Path


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
