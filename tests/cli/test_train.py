"""The verbs ``train`` and ``align`` as a user meets them: what they print, their status, Ctrl-C, and mistakes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

import torch
from safetensors.torch import load_file, save_file

from ipa_bench import cli
from ipa_bench.cli import train as console_align
from ipa_bench.engine import processes as pool
from ipa_bench.files import LORA_FILE
from ipa_bench.select import read_pairs, read_selection
from ipa_bench.suite import load_suite
from tests import tiny_wan
from tests.conftest import Tool
from tests.forked import Server
from tests.trainers.align import tiny_align
from trainers import config as train_config
from trainers import run as training
from trainers.align import config as align_config
from trainers.align import stages as align

TRAIN = """
[data]
suite = "suite.toml"
selection = "SELECTION"
mask = "exact"
[model]
model = "model"
dtype = "fp32"
[adapter]
rank = 2
[train]
steps = 24
batch = 2
micro_batch = 1
lr = 0.01
precision = "fp32"
save_every = 1000
[watch]
cases = 0
"""


@dataclass(frozen=True)
class Material:
    """A suite, a configuration, and candidates that were made, scored and chosen from."""

    folder: Path
    candidates: Path
    selection: Path

    def config(self, name: str = "train.toml", *changes: tuple[str, str]) -> Path:
        text = TRAIN.replace("SELECTION", str(self.selection))
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        (self.folder / name).write_text(text)
        return self.folder / name


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Material:
    folder = tiny_align.write(tmp_path_factory.mktemp("material"))
    config = align_config.load(folder / "align.toml")
    work = align.alignment(load_suite(folder / "suite.toml"), folder / "suite.toml", config, folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPA_BENCH_CACHE", str(cache_folder))
        align.align(work, only=("generate", "score", "select"), jobs=1)
    return Material(folder, work.round(1) / "candidates", work.round(1) / "selection.json")


@pytest.fixture(autouse=True)
def _own_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(pool, "prepare", lambda module: None)  # no workers are needed
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that are started: the same bits
    yield
    torch.set_num_threads(before)


Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Verb:
    """The command in this process, which has imported everything already: status, standard output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ipa-bench", *map(str, arguments)])
        capsys.readouterr()
        status: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code
        captured = capsys.readouterr()
        return int(str(status or 0)), captured.out, captured.err

    return run


def failed(result: tuple[int, str, str], *words: str) -> None:
    """The command failed as a user should see it: one line of what, one of what to do."""
    status, out, errors = result
    assert status == 2, out + errors
    assert "Traceback" not in errors
    said = [line for line in errors.splitlines() if not re.match(r"\w+: \d+/\d+$", line)]
    assert [line.split(":")[0].strip() for line in said] == ["error", "fix"], errors
    for word in words:
        assert word in errors, errors


def test_help_shows_how_it_is_called(tool: Tool) -> None:
    for name, words in (
        ("train", ("ipa-bench train ipa config.toml --dry-run", "accelerate launch", "Goes on where it stopped")),
        ("align", ("ipa-bench align suite.toml --config align.toml", "--only select", "--again select")),
    ):
        result = tool(name, "--help")
        assert result.returncode == 0
        for word in words:
            assert word in " ".join(result.stdout.split()), result.stdout


def test_a_dry_run_says_what_would_be_trained_and_trains_nothing(
    verb: Verb, material: Material, tmp_path: Path
) -> None:
    status, out, errors = verb("train", "ipa", material.config(), "--dry-run")
    assert (status, errors) == (0, "")
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert said["clips"] == "2 of 2 people, 2 with their latents kept"
    assert said["updates"] == "24 of 2 = 24.0 times each clip"
    assert said["trains"] == "a LoRA of rank 2 on qkv, all blocks"
    assert said["chosen"] == "by  frame.psnr@1"
    # 3 latent frames and the reference, each 32 pixels in patches of 8
    assert re.fullmatch(r"about \d+\.\d GB: .*\(64 tokens x 1\); an estimate", said["memory"])
    assert said["writes"] == "runs/train-ipa"
    assert not list(tmp_path.iterdir())


def test_memory_is_that_of_what_is_trained(material: Material) -> None:
    def said(*changes: tuple[str, str]) -> str:
        job = training.prepare(train_config.load(material.config("other.toml", *changes)), "ipa")
        return console_align.estimate(job)

    assert "tokens x 2)" in said(("micro_batch = 1", "micro_batch = 2"))
    assert "0.00 GB of host memory for the reference" in said(("[adapter]", "[adapter]\nfull = true"))


def test_a_dry_run_refuses_a_tracker_that_is_not_there(verb: Verb, material: Material, tmp_path: Path) -> None:
    for name, said in (("tensorbord", "there is no tracker 'tensorbord'"), ("comet_ml", "comet_ml is not installed")):
        config = material.config("tracked.toml", ("save_every = 1000", f'save_every = 1000\ntrackers = ["{name}"]'))
        failed(verb("train", "ipa", config, "--dry-run"), said)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_align_counts_what_would_be_made(verb: Verb, material: Material, tmp_path: Path) -> None:
    config = material.folder / "align.toml"
    status, out, _ = verb("align", material.folder / "suite.toml", "-c", config, "-o", "new", "--dry-run")
    assert status == 0
    assert "2 train cases x 2 = 4, in 1 round" in out
    assert "of each case" in out
    file = tmp_path / "nft.toml"
    file.write_text('method = "nft"\n')
    _, every, _ = verb("align", material.folder / "suite.toml", "-c", file, "-o", "new", "--dry-run")
    assert "every clip by its score" in every
    file.unlink()
    assert "2 test cases x 1 seeds x 2 models = 4 clips" in out
    assert not list(tmp_path.iterdir())


def test_an_unknown_key_names_the_nearest(verb: Verb, material: Material) -> None:
    wrong = material.config("wrong.toml", ("micro_batch", "mikro_batch"))
    line = wrong.read_text().split("mikro_batch")[0].count("\n") + 1
    failed(verb("train", "ipa", wrong), f"wrong.toml:{line}", '"mikro_batch"', 'did you mean "micro_batch"?')
    wrong = material.config("wrong.toml", ("[adapter]", "[adaptor]"))
    failed(verb("train", "sft", wrong), '"adaptor"', 'did you mean "adapter"?')
    config = material.folder / "wrong_align.toml"
    config.write_text(tiny_align.CONFIG.replace("per_case", "per_cases"))
    failed(verb("align", material.folder / "suite.toml", "-c", config), '"per_cases"', 'did you mean "per_case"?')


def test_a_suite_that_cannot_be_aligned_with_is_refused(verb: Verb, material: Material, tmp_path: Path) -> None:
    text = (material.folder / "suite.toml").read_text()
    suite = material.folder / "wrong_suite.toml"

    def refused(changed: str, *words: str) -> None:
        suite.write_text(changed)
        failed(verb("align", suite), *words)
        assert not list(tmp_path.iterdir())

    refused(text.replace('split = "train"', 'split = "val"'), 'no case with split = "train"', "generate candidates")
    refused(text.replace('split = "test"', 'split = "val"'), 'no case with split = "test"', "evaluate on")
    second = tiny_align.BASE.replace('"base"', '"base, guided"')
    refused(text + second, "has 2 models of kind wan_vace", 'base = "NAME"')
    refused(text.replace(tiny_align.BASE, ""), "has 0 models of kind wan_vace")
    refused(text.replace('"test1"', '"train500"'), "train500 is of the train and of the test split")
    failed(verb("align", suite, "--only", "trian"), "train500")
    suite.write_text(text)
    failed(verb("align", suite, "--only", "trian"), "there is no stage trian", "generate, score, select, train")
    failed(verb("align", suite, "--again", "selct"), "there is no stage selct")
    failed(verb("align", tmp_path / "nowhere.toml"), "cannot read")


def test_what_cannot_be_trained_on_is_refused(verb: Verb, material: Material, tmp_path: Path) -> None:
    chosen = read_selection(material.selection)
    suite = material.folder / "other_suite.toml"
    text = (material.folder / "suite.toml").read_text()
    suite.write_text(text.replace('split = "train"', 'split = "test"', 1))
    wrong = material.config("wrong.toml", ('"suite.toml"', '"other_suite.toml"'))
    failed(verb("train", "ipa", wrong), f"case {chosen.rows[0].case} is of the test split")
    wrong = material.config("wrong.toml", (str(material.selection), "nowhere.json"))
    failed(verb("train", "ipa", wrong), "nowhere.json", "ipa-bench select")
    failed(verb("train", "dpo", material.config()), "holds no pairs")
    failed(verb("train", "ipa", material.config("wrong.toml", ('"model"', '"nowhere"'))), "nowhere is not a folder")
    (tmp_path / "file").write_text("in the way")
    failed(verb("train", "ipa", material.config(), "-o", tmp_path / "file"), "cannot write in")


def test_a_lora_of_another_base_is_refused(verb: Verb, material: Material, tmp_path: Path) -> None:
    lora = tiny_wan.save_lora(tmp_path / "lora") / LORA_FILE
    wide = {
        name: torch.cat([value, value], 1 if "lora_A" in name else 0).contiguous()
        for name, value in load_file(lora).items()
    }
    save_file(wide, tmp_path / "wide.safetensors")
    changes = ('dtype = "fp32"', f'dtype = "fp32"\nlora = "{tmp_path / "wide.safetensors"}"')
    result = verb("train", "ipa", material.config("wrong.toml", changes), "-o", tmp_path / "out")
    failed(result, "wide.safetensors does not fit WanVACETransformer3DModel", "trained on this model")
    (tmp_path / "text.safetensors").write_text("no safetensors")
    changes = ('dtype = "fp32"', f'dtype = "fp32"\nlora = "{tmp_path / "text.safetensors"}"')
    failed(verb("train", "ipa", material.config("wrong.toml", changes)), "text.safetensors cannot be read")


def test_pairs_of_select_are_what_dpo_trains_on(verb: Verb, material: Material, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.json"
    asked = ("select", material.candidates, "--metric", "frame.psnr", "-o", pairs, "--pairs")
    status, out, _ = verb(*asked, "0.000001")
    assert status == 0
    assert out.startswith("2 of 2 cases have a good/bad pair")
    found = read_pairs(pairs)
    assert [pair.case for pair in found.preferences] == ["train500__take0", "train501__take0"]
    assert all(pair.good != pair.bad and Path(str(pair.bad)).is_file() for pair in found.preferences)
    few = (("steps = 24", "steps = 2"), (str(material.selection), str(pairs)))
    config = material.config("dpo.toml", *few, ('mask = "exact"', 'mask = "exact"\npairs = "all"'))
    status, out, _ = verb("train", "dpo", config, "-o", tmp_path / "dpo")
    assert status == 0
    lora = tmp_path / "dpo" / "lora" / LORA_FILE
    assert out.split() == [str(lora)]
    card = json.loads(lora.with_name("card.json").read_bytes())
    assert (card["method"], card["data"]["pairs"], card["data"]["chosen_by"]) == ("dpo", 2, ["frame.psnr@1"])
    # a margin that no two clips of a case differ by
    assert verb(*asked, "90")[0] == 0
    assert read_pairs(pairs).preferences == ()
    failed(verb("train", "dpo", config, "-o", tmp_path / "none"), "has no pair", "smaller margin")
    failed(verb("train", "dpo", material.config("dpo.toml", *few)), "has no strict pair")


def test_another_configuration_is_not_mixed_into_a_run(verb: Verb, material: Material, tmp_path: Path) -> None:
    few = material.config("few.toml", ("steps = 24", "steps = 1"))
    assert verb("train", "sft", few, "-o", tmp_path / "out")[0] == 0
    before = (tmp_path / "out" / "lora" / LORA_FILE).stat().st_mtime_ns
    assert verb("train", "sft", few, "-o", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "lora" / LORA_FILE).stat().st_mtime_ns == before
    failed(verb("train", "ipa", few, "-o", tmp_path / "out"), "another configuration", "--out")


def test_interrupted_training_says_so_and_goes_on_to_the_same_lora(
    training_server: Server, material: Material, cache_folder: Path, tmp_path: Path
) -> None:
    config = material.config("interrupted.toml")
    out, said = tmp_path / "out", tmp_path / "said"
    cache = tiny_align.own_cache(tmp_path / "cache", cache_folder)
    command: list[str | Path] = ["train", "ipa", config, "-o", out]
    process = tiny_align.start(training_server, command, cache, said)
    tiny_align.wait_for(process, r"^train: 5/24")
    process.signal(signal.SIGINT)
    assert process.wait() == 130, process.errors
    assert "Traceback" not in process.errors
    assert "goes on where this stopped" in process.errors
    steps = (out / "log.jsonl").read_text().count("\n")
    assert 5 <= steps < 24
    assert not (out / "lora").exists()
    process = tiny_align.start(training_server, command, cache, said)
    assert process.wait() == 0, process.errors
    assert process.out.splitlines()[-1] == str(out / "lora" / LORA_FILE)
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == list(range(24))
    whole = training.train(training.prepare(train_config.load(config), "ipa"), tmp_path / "whole")
    assert whole is not None
    assert (out / "lora" / LORA_FILE).read_bytes() == whole.read_bytes()
    shutil.rmtree(cache)
