"""The commands that are recorded, in the order in which they need each other's results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.behaviour import material
from tests.behaviour.tree import Tree

CLIPS, PEOPLE = Path("material", "clips"), Path("material", "people")


def clips(tree: Tree) -> None:
    """Real footage with damaged stand-ins for models; a second run finds nothing to do; a report with prices."""
    tree.run("run-clips", "run", CLIPS, "-j", 1, "-o", "clips")
    shutil.copytree(tree.work / "clips", tree.work / "clips-again")
    tree.run("run-clips-again", "run", CLIPS, "-j", 1, "-o", "clips-again", "--price", 2.5)
    tree.run("report", "report", "clips-again", "-j", 1)


def built_in(tree: Tree) -> None:
    """Three people of the built-in suite: the tiny model makes their clips, then all is scored."""
    tree.run("generate", "generate", PEOPLE / "three.toml", "-o", "three", "--limit", 1)
    tree.run("run-three-dry", "run", PEOPLE / "three.toml", "-o", "three", "--dry-run")
    tree.run("run-three", "run", PEOPLE / "three.toml", "-j", 1, "-o", "three")


def score(tree: Tree) -> None:
    """Clips without a suite, with what drove them and without, as a table and as JSON."""
    poor, driving = Path("clips", "videos", "melted-fingers", "anna__near.mp4"), CLIPS / "anna__near.mp4"
    for name, arguments in {
        "free": (CLIPS,),
        "driven": (poor, "--driving", driving),
        "cross": (poor, "--driving", driving, "--cross-identity"),
    }.items():
        tree.run(f"score-{name}-table", "score", *arguments, "-j", 1)
        tree.run(f"score-{name}-json", "score", *arguments, "--json", "-j", 1)


def validate(tree: Tree) -> None:
    """How far each metric can be trusted on a clip."""
    tree.run("validate", "validate", CLIPS / "anna__near.mp4", "-j", 1, "--out", "validation")


def align(tree: Tree) -> None:
    """Two people to train on, two to test on, one to watch."""
    tree.run("align", "align", PEOPLE / "people.toml", "-c", PEOPLE / "align.toml", "-j", 1, "-o", "align")


def select(tree: Tree) -> None:
    """The good candidates of the alignment, by several rules, and pairs of good and bad ones."""
    (tree.work / "chosen").mkdir()
    for name, rule in {
        "best": ("--top-k", 1),
        "good": ("--threshold", 0.2, "--per-identity", 1),
        "quality-pairs": ("--pairs", 0.001),
        # candidates are scored by what chooses alone: no other metric is known of them any more
        "pairs": ("--pairs", 1e-6, "--metric", "hand_quality"),
    }.items():
        tree.run(f"select-{name}", "select", "align/round1/candidates", *rule, "--out", f"chosen/{name}.json")


def train(tree: Tree) -> None:
    """Each method: killed after the first of three steps and gone on with; one asked again when all is done."""
    for method in material.TRAININGS:
        command = ("train", method, PEOPLE / f"{method}.toml", "--out", f"train-{method}")
        _kill_after_first_step(tree, method, command)
        tree.run(f"train-{method}", *command)
    tree.run(f"train-{method}-again", *command)


def _kill_after_first_step(tree: Tree, method: str, command: tuple[object, ...]) -> None:
    """Leave what a run leaves that is killed between its first state and its second: the rest is timing."""
    import torch

    state, cache, before = tree.work / f"train-{method}" / "state.pt", tree.work / "cache", tree.work / "cache-before"
    shutil.copytree(cache, before)
    for _ in range(5):
        tree.kill_when(state.exists, f"kill-{method}", *command)
        if torch.load(state, weights_only=True)["step"] == 1:
            shutil.rmtree(before)
            return
        for folder in (state.parent, cache):
            shutil.rmtree(folder)
        shutil.copytree(before, cache)
    raise RuntimeError(f"train {method} was never killed in its second step: is the machine busy?")


def cost(tree: Tree) -> None:
    """A cost sheet of the tiny model at one shape."""
    command = ("cost", "embedded", "--shapes", "64x64x5", "--dtype", "fp32", "--steps", 2, "--rank", 4, "-o", "cost")
    tree.run("cost-dry", *command, "--dry-run")
    tree.run("cost", *command, "--methods", "ipa,generate", "--price", 2.5, "--estimate", "64x64x9")


def pose(tree: Tree) -> None:
    """Body and hands drawn: one clip cut and resampled, and a folder as it is."""
    tree.run("pose", "pose", CLIPS / "bert__wave.mp4", "--out", "pose.mp4", "--size", "128x128", "--fps", 12, "-j", 1)
    tree.run("pose-all", "pose", CLIPS, "--out", "poses", "--frames", 4, "-j", 1)


def words(tree: Tree) -> None:
    """Tables that need no input, and what is said about mistakes."""
    tree.run("metrics", "metrics")
    tree.run("weights", "weights", "list")
    selection = ("--out", "chosen/no.json")
    for name, arguments in {
        "no-command": ("no-such-command",),
        "no-clips": ("run", "nowhere"),
        "no-run": ("report", "nowhere"),
        "no-video": ("score", "nothing.mp4"),
        "no-method": ("train", "magic", PEOPLE / "sft.toml"),
        "no-metric": ("select", "align/round1/candidates", "--metric", "hand_qualty", *selection),
        "of-test": ("select", "clips", *selection),
        "another-suite": ("run", CLIPS, "-o", "align/evaluation"),
        "another-config": ("train", "ipa", PEOPLE / "sft.toml", "--out", "train-sft"),
        "misspelt-suite": ("run", PEOPLE / "misspelt_suite.toml"),
        "misspelt-align": ("align", PEOPLE / "people.toml", "-c", PEOPLE / "misspelt_align.toml"),
        "misspelt-train": ("train", "sft", PEOPLE / "misspelt_train.toml"),
    }.items():
        tree.run(f"error-{name}", *arguments, code=2)


STEPS: dict[str, Callable[[Tree], None]] = {
    step.__name__: step for step in (clips, built_in, score, validate, align, select, train, cost, pose, words)
}
#: whose results a step uses
NEEDS = {
    "score": ("clips",),
    "select": ("align",),
    "train": ("align", "select"),
    "words": ("clips", "align", "select", "train"),
}


def chosen(names: list[str]) -> list[str]:
    """These steps and those whose results they use, in order; all where none is named."""
    wanted = {*names, *(need for name in names for need in NEEDS.get(name, ()))} or set(STEPS)
    return [name for name in STEPS if name in wanted]
