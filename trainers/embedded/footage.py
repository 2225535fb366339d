"""``ipa-bench embedded footage``: a base of the built-in world, tuned on footage of which half is wrong.

    ipa-bench embedded footage runs/footage
    ipa-bench embedded footage runs/pairs --wrong identity

Renders people of the train split whom neither pretraining nor alignment shows, every second clip with bad hands or with
two people mixed up, and fine-tunes the tiny Wan-VACE on them (SFT, a LoRA). What it leaves in ``FOLDER/train/lora`` is
such a base; that of the built-in suites is made by :mod:`trainers.embedded.habits`. Ctrl-C stops it; the same command
goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ipa_bench.config.toml import read_toml
from ipa_bench.embedded import cases, estimator, footage
from ipa_bench.embedded.group import cases as groups
from ipa_bench.embedded.group import footage as mixed
from ipa_bench.embedded.group.setting import Key
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.models.specs import EMBEDDED
from ipa_bench.select import Rule, SelectedVideo, Selection, write_selection
from ipa_bench.video import file_sha256
from trainers import config as train_config
from trainers import run as train

CONFIG = Path(__file__).parents[1] / "configs" / "footage.toml"
#: people of the train split from 2000 on: pretraining shows 0 to 499, alignment begins at 500
PEOPLE = cases.Part("train", 192, 2000)
#: what is wrong: of hands, or of who is who
Wrong = Literal[footage.Wrong, "identity"]


def render(folder: Path, people: cases.Part, wrong: Wrong = "anatomy") -> None:
    """Cases with pose maps, and for each the clip that is trained on; ``selection.json`` is written last.

    Raises UserError where the folder holds footage with something else wrong.
    """
    marker = folder / "wrong.txt"
    if (folder / "selection.json").exists():
        found = marker.read_text() if marker.exists() else "focus"
        if found != wrong:
            raise UserError(f"{folder} holds footage that is wrong in {found}", "choose another folder")
        return
    made_by = f"ipa-bench embedded footage {folder.as_posix()} --people {people.identities} --wrong {wrong}"
    numbers = range(people.first, people.first + people.identities)
    clips = folder / "footage"
    if wrong == "identity":
        keys = [Key(2, people.split, number) for number in numbers]
        groups.write_keys(folder, keys, 1, [cases.PRETRAINED], made_by)
        clips.mkdir(exist_ok=True)
        files = list(pool.imap(partial(mixed.write, folder=clips), keys, pool.cores()))
    else:
        cases.write_parts(folder, [people], 1, 1, [cases.PRETRAINED], made_by, estimator.MILD)
        clips.mkdir(exist_ok=True)
        files = list(pool.imap(partial(footage.write, folder=clips, wrong=wrong), list(numbers), pool.cores()))
    rows = tuple(SelectedVideo(file.stem, 0, "footage", str(file), file_sha256(file), {}) for file in files)
    write_atomic(marker, wrong.encode())
    # Nothing chose: these are all the clips there are.
    write_selection(Selection(Rule("none", "higher"), (), rows, len(rows), 0), folder / "selection.json")


def tune(folder: Path, steps: int | None = None, model: str = EMBEDDED) -> Path | None:
    """The LoRA of ``model`` that :data:`CONFIG` makes of the footage in ``folder``.

    ``steps``: updates, in place of the configuration's. Hands weigh more where they are what is wrong.
    """
    config = train_config.placed(read_toml(CONFIG, train_config.TrainConfig).value, folder)
    changes: dict[str, dict[str, Any]] = {"model": {"model": model}}
    if steps is not None:
        changes["train"] = {"steps": steps}
    if (folder / "wrong.txt").read_text() == "identity":
        changes["loss"] = {"hand_weight": 1.0}
    config = train_config.changed(config, changes)
    return train.train(train.prepare(config, "sft"), folder / "train", tell=_tell)


def _tell(stage: str, done: int, total: int, metrics: Mapping[str, float], alarm: str = "") -> None:
    if alarm:
        print(alarm, flush=True)
        return
    if done % 20 == 0 or done == total:
        print(f"{stage} {done}/{total} " + " ".join(f"{k} {v:.4g}" for k, v in metrics.items()), flush=True)
