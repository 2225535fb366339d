"""``ipa-bench embedded footage``: the base of the built-in world, tuned on footage with bad hands.

    ipa-bench embedded footage runs/footage

Renders people of the train split whom neither pretraining nor alignment shows, every second one with bad hands, and
fine-tunes the tiny Wan-VACE on them (SFT, a LoRA). What it leaves in ``FOLDER/train/lora`` is the base of the built-in
suites. Ctrl-C stops it; the same command goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ipa_bench.config.toml import read_toml
from ipa_bench.embedded import cases, estimator, footage
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.select import Rule, SelectedVideo, Selection, write_selection
from ipa_bench.video import file_sha256
from trainers import config as train_config
from trainers import run as train

CONFIG = Path(__file__).parents[1] / "configs" / "footage.toml"
#: people of the train split from 2000 on: pretraining shows 0 to 499, alignment begins at 500
PEOPLE = cases.Part("train", 192, 2000)


def render(folder: Path, people: cases.Part, wrong: footage.Wrong = "anatomy") -> None:
    """Cases with pose maps, and for each the clip that is trained on; ``selection.json`` is written last.

    Raises UserError where the folder holds footage with something else wrong.
    """
    marker = folder / "wrong.txt"
    if (folder / "selection.json").exists():
        found = marker.read_text() if marker.exists() else "focus"
        if found != wrong:
            raise UserError(f"{folder} holds footage whose hands are wrong in {found}", "choose another folder")
        return
    made_by = f"ipa-bench embedded footage {folder.as_posix()} --people {people.identities}"
    cases.write_parts(folder, [people], 1, 1, [cases.PRETRAINED], made_by, estimator.USUAL)
    (folder / "footage").mkdir(exist_ok=True)
    identities = range(people.first, people.first + people.identities)
    files = list(
        pool.imap(partial(footage.write, folder=folder / "footage", wrong=wrong), list(identities), pool.cores())
    )
    rows = tuple(SelectedVideo(file.stem, 0, "footage", str(file), file_sha256(file), {}) for file in files)
    write_atomic(marker, wrong.encode())
    # Nothing chose: these are all the clips there are.
    write_selection(Selection(Rule("none", "higher"), (), rows, len(rows), 0), folder / "selection.json")


def tune(folder: Path, steps: int | None = None) -> Path | None:
    """The LoRA that :data:`CONFIG` makes of the footage in ``folder``."""
    config = train_config.placed(read_toml(CONFIG, train_config.TrainConfig).value, folder)
    if steps is not None:
        config = train_config.changed(config, {"train": {"steps": steps}})
    return train.train(train.prepare(config, "sft"), folder / "train", tell=_tell)


def _tell(stage: str, done: int, total: int, metrics: Mapping[str, float], alarm: str = "") -> None:
    if alarm:
        print(alarm, flush=True)
        return
    if done % 20 == 0 or done == total:
        print(f"{stage} {done}/{total} " + " ".join(f"{k} {v:.4g}" for k, v in metrics.items()), flush=True)
