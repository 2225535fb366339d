"""The verb as a user meets it, and measurements in processes of their own, whatever becomes of those."""

import json
import os

import pytest

from ipa_bench.cli.cost import ATTENTION
from ipa_bench.models.speed import BACKENDS
from trainers.cost_sheet.measure import run_cell
from trainers.cost_sheet.plan import Cell, Clip
from trainers.cost_sheet.sheet import cell_json, result_of

TINY = ("--shapes", "64x64x5", "--dtype", "fp32", "--rank", "4", "--steps", "4", "--out", "sheet")
SFT = Cell("embedded", False, "sft", Clip(64, 64, 5), 1, "fp32", rank=4, layers="qkv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cost")


@pytest.fixture(scope="module")
def cost(folder, training_server):
    """Run ``ipa-bench cost`` as a process; what it measures it does in others, which begin with nothing or, told so in
    ``call``, are forked from it."""

    def run(*arguments, call="ipa_bench.cli:main"):
        environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        return training_server.run(["cost", *arguments], folder, environment, folder.with_name("said"), call=call)

    return run


@pytest.fixture(scope="module")
def first(cost, folder):
    """The published recipe alone, measured."""
    ended = cost(*TINY, "--methods", "published")
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "sheet" / "cost.json").read_text())


def test_a_sheet_goes_on_where_it_stopped(first, cost, folder):
    (published,) = first["results"].values()
    ended = cost(
        *TINY, "--methods", "published,ipa-cached,generate", "--estimate", "128x128x17", "--price", "2",
        call="tests.trainers.cost_sheet.forked_cells:main",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = json.loads((folder / "sheet" / "cost.json").read_text())
    assert found["results"][next(iter(first["results"]))] == published  # not measured again
    by = {result["cell"]["work"]: result for result in found["results"].values()}
    assert set(by) == {"published", "ipa-cached", "generate"}
    assert all(result["state"] == "measured" and len(result["seconds"]) == 5 for result in by.values())
    # The same losses, in processes of their own; the policy begins as its reference.
    assert by["ipa-cached"]["losses"] == pytest.approx(by["published"]["losses"], rel=1e-6)
    assert by["published"]["losses"][0] == pytest.approx(0.6931472)
    assert by["ipa-cached"]["held"] * 2 == by["published"]["held"]
    assert by["generate"]["decode"]
    assert all(result["host"]["value"] > 1e8 for result in by.values())
    assert by["generate"]["device_allocated"]["reason"] == "no GPU was used"
    guesses = {guess["cell"]["work"]: guess for guess in found["estimates"]}
    assert set(guesses) == set(by)
    assert all(guess["seconds"]["value"] > 0 and guess["reach"] > 1 for guess in guesses.values())
    text = (folder / "sheet" / "cost.md").read_text()
    assert "Estimates, not measurements" in text
    assert "price of 1000 steps" in text
    assert text.replace("\\", "").strip() in ended.stdout  # no backslashes where nothing renders them
    names = {path.name for path in (folder / "sheet").iterdir()}
    assert names == {"cost.json", "cost.md", "cost.html", "training.svg", "generating.svg"}


def test_a_dry_run_measures_nothing(first, cost, folder):
    before = (folder / "sheet" / "cost.json").read_bytes()
    ended = cost(*TINY, "--methods", "published,sft", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert "1 of 2 to measure" in ended.stdout
    assert (folder / "sheet" / "cost.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shapes", "64x60x5"), "the next larger shape is 64x64x5"),
        (("nowhere/model", "--random-weights"), "not a folder with a configuration"),
    ],
)
def test_mistakes_are_one_line_and_status_2(cost, arguments, said):
    ended = cost(*arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_memory_that_runs_out_is_a_result(training_server, tmp_path):
    """The latents of one such clip are 11 GB; the process, which is forked, may have 3."""
    cell = Cell("embedded", False, "sft", Clip(8192, 8192, 161), 1, "fp32", rank=4, layers="qkv", memory=3.0)
    asked, said = tmp_path / "cell.json", tmp_path / "result.json"
    asked.write_bytes(cell_json(cell))
    call = "tests.trainers.cost_sheet.forked_cells:alone"
    ended = training_server.run([asked, said], tmp_path, os.environ, tmp_path / "said", call=call)
    assert ended.returncode == 0, ended.stderr
    found = result_of(said.read_bytes())
    assert found.state == "out of memory", found.reason
    assert found.reason.startswith("while preparing to train: ")
    assert "memory" in found.reason
    assert found.seconds == ()
    assert found.flops > 10**15  # what it would have been is known


@pytest.mark.parametrize(
    ("script", "state", "reason"),
    [
        ("kill -9 $$", "out of memory", "signal 9"),
        ("echo 'terminate called after std::bad_alloc' >&2; kill -ABRT $$", "out of memory", "bad_alloc"),
        ("echo 'ValueError: odd' >&2; exit 1", "failed", "ValueError: odd"),
        ("exit 3", "failed", "status 3"),
        ("exit 0", "failed", "status 0"),
    ],
)
def test_whatever_ends_the_process_is_a_result(tmp_path, script, state, reason):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    found = run_cell(SFT, python=str(program))
    assert (found.state, found.seconds) == (state, ())
    assert reason in found.reason


def test_every_way_to_compute_attention_is_in_the_help() -> None:
    assert ATTENTION.split(", ") == [*BACKENDS]
