"""Runs that are killed, interrupted and divided: real processes, real signals, and the same weights in the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.forked import Server
from tests.trainers import tiny_runs
from tests.trainers.tiny_runs import Order, Training
from trainers import rewards
from trainers import run as training
from trainers.methods import MethodName

#: everything that a step may depend on, spread over the methods
RUNS: dict[str, tuple[MethodName, dict[str, dict[str, Any]]]] = {
    "sft": ("sft", {"adapter": {"dropout": 0.2}, "train": {"ema": 0.9}}),
    "ipa": ("ipa", {"train": {"warmup": 3, "schedule": "cosine", "draws": 2}}),
    "dpo": ("dpo", {"train": {"micro_batch": 2, "weight_decay": 0.1}}),
    "wsft": ("wsft", {"methods": {"wsft": {"temperature": 0.5}}}),
    "nft": ("nft", {"methods": {"nft": {"old_every": 2, "old_rate": 0.3, "kl": 0.1}}}),
    # rounds of four updates: what is saved after two is in the middle of one
    "nft, online": (
        "nft",
        {
            **tiny_runs.ONLINE,
            "train": {"batch": 1, "steps": 6},
            "methods": {"nft": {"old_every": 2, "old_rate": 0.3}},
        },
    ),
    "ipa, full": ("ipa", {"adapter": {"full": True}, "train": {"ema": 0.5, "lr": 1e-3}}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


@pytest.fixture(autouse=True)
def _alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tiny_runs.own_cache(tmp_path / "cache", folder)))
    monkeypatch.setattr(rewards, "REWARDS", (*rewards.REWARDS, tiny_runs.TOY))


def order(folder: Path, out: Path, name: str, **settings: Any) -> Order:
    method, changes = RUNS[name]
    environment = {"IPA_BENCH_CACHE": os.environ["IPA_BENCH_CACHE"]}
    return Order(str(folder), str(out), method, changes, environment, **settings)


def whole(folder: Path, out: Path, name: str) -> Path:
    """The run that nothing happened to."""
    made = training.train(tiny_runs.job(folder, *RUNS[name]), out)
    assert made is not None
    return made


def assert_same_run(one: Path, other: Path) -> None:
    tiny_runs.assert_same_state(one, other)
    assert tiny_runs.log(one) == tiny_runs.log(other)
    saved = sorted((one / "lora").rglob("*.safetensors"))
    assert saved
    for file in saved:
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    training_server: Server, folder: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    process = tiny_runs.start(training_server, order(folder, out, name, pause_after=3))
    process.until_paused()
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert tiny_runs.state(out)["step"] == 2  # the third step is in the log only
    assert len(tiny_runs.log(out)) == 3
    assert not (out / "lora").exists()
    whole(folder, out, name)
    whole(folder, tmp_path / "whole", name)
    assert_same_run(tmp_path / "whole", out)


def test_a_round_that_was_killed_goes_on_to_the_same_bits(
    training_server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = {**tiny_runs.ONLINE, "train": {"steps": 4, "save_every": 100}}
    monkeypatch.setitem(
        RUNS, "grpo", ("grpo", {**seldom, "methods": {"grpo": {"window": 1, "drawn": True, "kl": 0.0}}})
    )
    out, later = tmp_path / "out", Path("rounds/000001/clips")

    def killed(**pause: Any) -> None:
        process = tiny_runs.start(training_server, order(folder, out, "grpo", **pause))
        process.until_paused()
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert tiny_runs.state(out)["step"] == 2  # saved for the round, not a step that is saved otherwise

    killed(pause_at=(2, 3))
    made = sorted((out / later).glob("*.mp4"))
    assert len(made) == 3
    # a clip that was under way: its steps are there, and it is not
    made[-1].with_suffix(".json").unlink()
    kept = {file: file.stat().st_mtime_ns for file in made[:-1]}
    killed(pause_after=3)
    whole(folder, out, "grpo")
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    whole(folder, tmp_path / "whole", "grpo")
    assert_same_run(tmp_path / "whole", out)
    assert (out / "rounds.jsonl").read_text() == (tmp_path / "whole" / "rounds.jsonl").read_text()
    for file in sorted((out / later).glob("*.safetensors")):
        assert file.read_bytes() == (tmp_path / "whole" / later / file.name).read_bytes()


@pytest.mark.slow
def test_killed_again_and_again_at_any_moment_it_ends_the_same(
    training_server: Server, folder: Path, tmp_path: Path
) -> None:
    """By default the same run is killed once, above, and an alignment at any two moments (align/test_stages.py)."""
    method, changes = RUNS["sft"]
    changes = {**changes, "train": {**changes["train"], "steps": 24, "save_every": 1}}
    asked = replace(order(folder, tmp_path / "out", "sft"), changes=changes)
    log = tmp_path / "out" / "log.jsonl"
    for least in (2, 7, 13):
        process = tiny_runs.start(training_server, asked)
        process.until(lambda least=least: log.exists() and log.read_bytes().count(b"\n") >= least)
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert tiny_runs.start(training_server, asked).wait() == 0
    assert training.train(tiny_runs.job(folder, method, changes), tmp_path / "whole") is not None
    assert_same_run(tmp_path / "whole", tmp_path / "out")


def test_ctrl_c_ends_after_the_step_and_the_same_command_goes_on(
    training_server: Server, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = order(folder, out, "ipa")
    process = tiny_runs.start(training_server, replace(asked, pause_in=4))  # the first of two losses of the third step
    process.until_paused()
    process.signal(signal.SIGINT)
    process.go_on()
    assert process.wait() == 130
    assert tiny_runs.state(out)["step"] == 3  # not a step that is saved otherwise
    assert len(tiny_runs.log(out)) == 3
    assert tiny_runs.start(training_server, asked).wait() == 0
    whole(folder, tmp_path / "whole", "ipa")
    assert_same_run(tmp_path / "whole", out)


def together(training_server: Server, asked: Order, count: int) -> list[Training]:
    """Processes of one run; the last of them pauses where a pause is asked for."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "1"}
    started = []
    for rank in range(count):
        mine = {**asked.environment, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        pause_in = asked.pause_in if rank == count - 1 else None
        started.append(tiny_runs.start(training_server, replace(asked, environment=mine, pause_in=pause_in)))
    return started


def several_and_one(
    training_server: Server, folder: Path, tmp_path: Path, method: MethodName, changes: dict[str, Any], count: int = 2,
    **more: Any,
) -> None:  # fmt: skip
    """The same run by several processes, in ``two``, and by one, in ``one``."""
    asked = replace(order(folder, tmp_path / "two", "sft"), method=method, changes=changes, **more)
    assert [process.wait() for process in together(training_server, asked, count)] == [0] * count
    training.train(tiny_runs.job(folder, method, changes), tmp_path / "one")


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("ipa", 2),
        ("dpo", 2),
        # the loss of either half of it is divided as IPA's is, which stands above
        pytest.param("sft", 2, marks=pytest.mark.slow),
        pytest.param("ipa", 4, marks=pytest.mark.slow),
    ],
)
def test_several_processes_agree_with_one_to_rounding(
    training_server: Server, folder: Path, tmp_path: Path, method: MethodName, count: int
) -> None:
    # continued from a LoRA, all of whose matrices have a gradient at once
    changes = {"model": {"lora": str(folder / "lora")}, "train": {"batch": 4, "steps": 1}}
    several_and_one(training_server, folder, tmp_path, method, changes, count, runs=2)
    tiny_runs.assert_same_gradients(tmp_path / "one", tmp_path / "two", method)
    # the same two processes can train again, as several rounds do
    assert_same_run(tmp_path / "two", tmp_path / "two-1")


def test_two_processes_make_and_learn_from_one_round(training_server: Server, folder: Path, tmp_path: Path) -> None:
    method: MethodName = "grpo"
    changes = {**tiny_runs.ONLINE, "model": {"lora": str(folder / "lora")}, "train": {"batch": 4, "steps": 1}}
    several_and_one(training_server, folder, tmp_path, method, changes)
    tiny_runs.assert_same_gradients(tmp_path / "one", tmp_path / "two", method)
    assert (tmp_path / "one/rounds.jsonl").read_text() == (tmp_path / "two/rounds.jsonl").read_text()


def test_ctrl_c_to_one_of_two_processes_ends_both(training_server: Server, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    processes = together(training_server, order(folder, out, "ipa", pause_in=2), 2)
    processes[1].until_paused()
    processes[1].signal(signal.SIGINT)
    processes[1].go_on()
    assert [process.wait() for process in processes] == [130, 130]
    assert tiny_runs.state(out)["step"] == 3
    assert [process.wait() for process in together(training_server, order(folder, out, "ipa"), 2)] == [0, 0]
    assert [process.wait() for process in together(training_server, order(folder, tmp_path / "whole", "ipa"), 2)] == [
        0,
        0,
    ]
    assert_same_run(tmp_path / "whole", out)


@pytest.mark.slow
def test_processes_of_a_launcher_train_one_lora(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "go.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        "from tests.trainers import tiny_runs; from trainers import run\n"
        "job = tiny_runs.job(Path(sys.argv[1]), 'ipa', {'train': {'batch': 4, 'steps': 1}})\n"
        "assert run.train(job, Path(sys.argv[2])) is not None\n"
    )
    # what accelerate launch starts for several GPUs; for several processes on a CPU it would want MPI
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [*command, str(script), str(folder), str(tmp_path / "two")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    training.train(tiny_runs.job(folder, "ipa", {"train": {"batch": 4, "steps": 1}}), tmp_path / "one")
    tiny_runs.assert_same_gradients(tmp_path / "one", tmp_path / "two", "ipa")
