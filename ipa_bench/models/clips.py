"""The clips that one model has made: a folder that says how they were made, and which cases they belong to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256, read_json, replacing
from ipa_bench.models.checkpoint import DRIVEN, MODE, REPLACE, Recipe
from ipa_bench.types import Case

RECIPE_NAME = "recipe.json"


@dataclass(frozen=True)
class ClipFolder:
    """``wave_seed3.mp4`` for case ``wave`` and seed 3, beside it ``wave_seed3.json``; ``recipe.json`` for all of them.

    The small JSON file is written last: a clip without one was not finished. It holds a hash of what the case gave the
    model, so that a clip of a case that has changed since does not count, and where no clip could be made the reason.
    :class:`~ipa_bench.models.folder.FolderModel` reads such a folder too.
    """

    folder: Path
    recipe: Recipe
    #: what draws the poses of cases that have none, with its version
    drawn_by: str = ""

    def open(self) -> None:
        """Make the folder, or check that what is in it was made by the same recipe.

        Raises :class:`UserError` naming what differs, or that it cannot be written.
        """
        path = self.folder / RECIPE_NAME
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            found = None
        except (OSError, ValueError):
            raise UserError(f"{path} cannot be read", f"delete {self.folder}, or use another folder") from None
        if found is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                _write(path, self.recipe)
            except OSError as error:
                raise UserError(
                    f"cannot write in {self.folder}: {error.strerror}", "choose a folder that can be written to"
                ) from None
        elif found != self.recipe:
            keys = dict.fromkeys((*self.recipe, *found))
            differs = [
                f"{key} ({found.get(key)}, now {self.recipe.get(key)})"
                for key in keys
                if found.get(key) != self.recipe.get(key)
            ]
            raise UserError(
                f"{self.folder} holds clips that were made otherwise; what differs: {', '.join(differs)}",
                "use another run folder, name the model otherwise, or delete that folder",
            )

    def clip(self, case: Case, seed: int) -> Path:
        """Where the clip of a case and seed belongs."""
        return self.folder / f"{case.id}_seed{seed}.mp4"

    def latents(self, case: Case, seed: int) -> Path:
        """Where the latents that a clip was decoded from belong, where they are kept."""
        return self.clip(case, seed).with_suffix(".safetensors")

    def find(self, case: Case, seed: int) -> Path | None:
        """The finished clip, or None. Raises :class:`Unscorable` with the reason where none could be made."""
        about = read_json(self._about(case, seed))
        try:
            inputs, reason = about["inputs"], about["reason"]
        except (KeyError, TypeError):
            return None
        if inputs != self._inputs(case):
            return None
        if reason is not None:
            raise Unscorable(reason)
        clip = self.clip(case, seed)
        return clip if clip.is_file() else None

    def finish(self, case: Case, seed: int, reason: str | None = None, **about: object) -> None:
        """Note that a clip lies where it belongs, or why there is none; ``about`` as JSON values beside it."""
        _write(self._about(case, seed), {"inputs": self._inputs(case), "reason": reason, **about})

    def _about(self, case: Case, seed: int) -> Path:
        return self.clip(case, seed).with_suffix(".json")

    def _inputs(self, case: Case) -> str:
        """A hash of what the model takes from a case."""
        # A reference or pose that is not given is taken from the driving clip.
        files = {"reference": case.reference or case.driving, "pose": case.pose or case.driving}
        said = {name: self._hash(path) for name, path in files.items()}
        said |= {} if case.pose else {"drawn_by": self.drawn_by}
        if self.recipe.get(DRIVEN):
            said["driving"] = self._hash(case.driving)
        if self.recipe.get(MODE) == REPLACE:
            around = {name: path for name in ("background", "character_mask") if (path := getattr(case, name))}
            said |= {name: self._hash(path) for name, path in around.items()}
        if case.references:  # in their order; only where there are several: what was made without is still found
            said["reference"] = ",".join(self._hash(path) for _, path in case.references)
        if case.poses and not case.pose:
            said["pose"] = ",".join(self._hash(path) for _, path in case.poses)
        asked = {"id": case.id, "prompt": case.prompt, "frames": case.frames, "fps": case.fps, "size": case.size}
        return hashlib.sha256(json.dumps(said | asked, sort_keys=True).encode()).hexdigest()

    def _hash(self, path: Path) -> str:
        try:
            return file_sha256(path)
        except Unscorable:
            return "unreadable"


def read_note(clip: Path) -> dict[str, Any]:
    """What :meth:`ClipFolder.finish` noted of a clip; empty where nothing can be read."""
    note = read_json(clip.with_suffix(".json"))
    return note if isinstance(note, dict) else {}


@dataclass(frozen=True)
class MadeModel:
    """A model whose clips have been made already, as far as they could be."""

    name: str
    clips: ClipFolder

    def generate(self, case: Case, seed: int) -> Path:
        """The clip. Raises :class:`Unscorable` where there is none, with the reason that its making ended with."""
        clip = self.clips.find(case, seed)
        if clip is None:
            raise Unscorable(f"{self.clips.clip(case, seed).name} was not made")
        return clip


def _write(path: Path, content: object) -> None:
    """A JSON file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
