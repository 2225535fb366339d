"""Work that processes share: everybody hears everything in order, and nobody waits for somebody who failed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ipa_bench import files
from ipa_bench.errors import UserError
from ipa_bench.models.wan.vace import WanVace
from tests import tiny_wan
from tests.forked import Server
from tests.trainers import tiny_runs
from tests.trainers.test_run_processes import assert_same_run, order, several_and_one, together
from trainers import parts, ranks
from trainers import run as training
from trainers.config import AdapterConfig, TrainTable
from trainers.loop import Items, Loop
from trainers.methods import MethodName
from trainers.policy import FullPolicy, LoraPolicy
from trainers.ranks import Ranks
from trainers.shard import Sharded


class Fellows(Ranks):
    """One of two processes; what the other gives is known."""

    other: list[object]

    def all(self, value):  # type: ignore[no-untyped-def]
        return [value, self.other.pop(0)] if self.index == 0 else [self.other.pop(0), value]


def test_alone_it_is_a_loop() -> None:
    assert Ranks().shared([1, 2, 3], lambda n: 10 * n) == [10, 20, 30]
    assert Ranks().all("x") == ["x"]

    def fail(_: int) -> int:
        raise UserError("no", "yes")

    with pytest.raises(UserError, match="no"):
        Ranks().shared([1], fail)


def test_of_two_each_does_every_second_piece_and_a_failure_is_everybodys() -> None:
    first = Fellows(0, 2)
    object.__setattr__(first, "other", [([20, 40], None), ([], ("full", "free some space"))])
    assert first.shared([1, 2, 3, 4, 5], lambda n: 10 * n) == [10, 20, 30, 40, 50]
    with pytest.raises(UserError, match="full"):
        first.shared([1, 2], lambda n: n)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    return tiny_runs.write(tmp_path / "material")


def watch_both(folder: Path) -> None:
    """Tess is watched as vera is; nobody tests here."""
    suite = folder / "suite.toml"
    suite.write_text(suite.read_text().replace('split = "test"', 'split = "val"'))


def test_of_two_processes_each_reads_half_of_what_is_trained_on(
    training_server: Server, folder: Path, tmp_path: Path
) -> None:
    asked = order(folder, tmp_path / "out", "sft")
    asked = replace(asked, method="dpo", changes={"train": {"steps": 1, "batch": 2}}, reads=True)
    assert [process.wait() for process in together(training_server, asked, 2)] == [0, 0]
    lines = [(tmp_path / "out" / f"read-{rank}.txt").read_text().split() for rank in range(2)]
    read = [[name for name in of_one if name.endswith(".mp4")] for of_one in lines]
    kinds = ("driving_{}.mp4", "pose_{}.mp4", "mask_{}.mp4", "{}_seed0.mp4", "{}_seed1.mp4")
    assert sorted(read[0] + read[1]) == sorted(kind.format(who) for who in tiny_runs.PEOPLE for kind in kinds)  # once
    assert abs(len(read[0]) - len(read[1])) <= 1


def test_what_another_process_has_read_counts_for_the_same_file_alone(tmp_path: Path) -> None:
    clip, other = tmp_path / "clip.mp4", tmp_path / "other.mp4"
    for file in (clip, other):
        file.write_bytes(b"frames")
        os.utime(file, ns=(10**18, 10**18))
    read = files.Read.of(clip)
    assert read is not None
    assert read.sha256 == hashlib.sha256(b"frames").hexdigest()
    told = replace(read, sha256="told")
    told.taken_over(clip)  # changed a moment ago, and may change again unseen
    assert files.sha256_of(clip) == read.sha256
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_FRESH", -1)
        told.taken_over(clip)
        assert files.sha256_of(clip) == "told"
        other.write_bytes(b"Frames")  # at another time
        told.taken_over(other)
        assert files.sha256_of(other) == hashlib.sha256(b"Frames").hexdigest()
    files.forget_hashes()
    assert files.Read.of(tmp_path / "gone.mp4") is None


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "TPU"])
def test_other_ways_to_divide_a_run_are_refused_by_name(kind: str) -> None:
    with pytest.raises(UserError, match=kind):
        ranks.check(kind)
    for known in ranks.DATA_PARALLEL:
        ranks.check(known)


def test_a_run_under_fsdp_is_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_runs.write(tmp_path / "material")
    monkeypatch.setattr("accelerate.Accelerator.distributed_type", type("Kind", (), {"value": "FSDP"}))
    monkeypatch.setattr("ipa_bench.models.wan.pipeline.load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(UserError, match="cannot be divided by FSDP"):
        training.train(tiny_runs.job(folder, "sft"), tmp_path / "out")


LORA: dict[str, dict[str, Any]] = {"model": {"lora": "lora"}}
#: every weight is trained, and divided with its moments and its average; two experts whose clips are few
FULL: dict[str, dict[str, Any]] = {"adapter": {"full": True}, "train": {"ema": 0.9}}
EXPERTS: dict[str, dict[str, Any]] = {"loss": {"shift": 5.0}}


def divided(folder: Path, kind: dict[str, dict[str, Any]], **train: Any) -> dict[str, dict[str, Any]]:
    """A run of such a kind with ``train.shard``; its material lies in ``folder``."""
    if kind is EXPERTS:
        shutil.rmtree(folder / "model")
        tiny_wan.save(folder / "model", experts=2)
    model = {"model": {"lora": str(folder / "lora")}} if kind is LORA else {}
    return {**kind, **model, "train": {**kind.get("train", {}), "shard": True, **train}}


@pytest.mark.parametrize(
    ("method", "kind", "count"),
    [
        ("ipa", LORA, 2),
        *(pytest.param(m, LORA, n, marks=pytest.mark.slow) for m, n in (("nft", 2), ("sft", 4), ("dpo", 4))),
        *(pytest.param("ipa", kind, n, marks=pytest.mark.slow) for kind in (FULL, EXPERTS) for n in (2, 4)),
    ],
)
def test_divided_weights_train_what_whole_ones_do(
    training_server: Server, folder: Path, tmp_path: Path, method: MethodName, kind: Any, count: int
) -> None:
    """Processes that hold a part of the weights each, and look at held-out cases, against one with all."""
    watch_both(folder)
    changes = divided(folder, kind, batch=4, steps=1, gradient_checkpointing=method == "ipa")
    changes["watch"] = {"cases": 2, "steps": 1, "seeds": []}
    several_and_one(training_server, folder, tmp_path, method, changes, count)
    tiny_runs.assert_same_gradients(tmp_path / "one", tmp_path / "two", method)
    one, two = (json.loads((tmp_path / n / "watch.jsonl").read_text().splitlines()[0]) for n in ("one", "two"))
    assert one["flow"]["frame"] == pytest.approx(two["flow"]["frame"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"), [(LORA, 2), (FULL, 2), (EXPERTS, 2), (LORA, 4)], ids=["lora", "full", "experts", "lora of four"]
)
def test_a_run_with_divided_weights_that_was_killed_goes_on_to_the_same_bits(
    training_server: Server, folder: Path, tmp_path: Path, kind: Any, count: int
) -> None:
    changes = divided(folder, kind, batch=count, steps=4, save_every=1)
    asked = replace(order(folder, tmp_path / "out", "sft"), method="sft", changes=changes)
    processes = together(training_server, replace(asked, pause_in=2), count)
    processes[-1].until_paused()
    for process in processes:
        process.signal(signal.SIGKILL)
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * count
    assert tiny_runs.state(tmp_path / "out")["step"] == 2
    for out in ("out", "whole"):
        again = replace(asked, out=str(tmp_path / out))
        assert [process.wait() for process in together(training_server, again, count)] == [0] * count
    assert_same_run(tmp_path / "whole", tmp_path / "out")


@pytest.mark.slow
def test_an_expert_that_no_clip_goes_through_stays_as_it_is_on_any_number_of_processes(
    training_server: Server, folder: Path, tmp_path: Path
) -> None:
    """Adam's moments too: of two processes the clips of one may all be of one expert."""
    shutil.rmtree(folder / "model")
    tiny_wan.save(folder / "model", experts=2)
    changes = {"train": {"batch": 4, "steps": 1}, "loss": {"shift": 5.0}}
    several_and_one(training_server, folder, tmp_path, "sft", changes)
    tiny_runs.assert_same_gradients(tmp_path / "one", tmp_path / "two", "sft")
    moments = [tiny_runs.state(tmp_path / name)["optimizer"]["state"] for name in ("one", "two")]
    assert {key: float(value["step"]) for key, value in moments[0].items()} == {
        key: float(value["step"]) for key, value in moments[1].items()
    }


def test_of_divided_weights_each_process_holds_its_part(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        base = tiny_wan.base()
        trained = LoraPolicy(base, AdapterConfig(rank=2), None, 0)
        trained.train(False)
        given = {"control": torch.randn(1, 24, 3, 4, 4), "prompt": torch.randn(1, 7, 16)}
        z, t = torch.randn(1, 4, 3, 4, 4), torch.tensor([0.5])
        with torch.no_grad():
            expected = base.velocity(z, t, given)
            sharded = Sharded(base)
            assert torch.equal(base.velocity(z, t, given), expected)
            with sharded.together():
                assert torch.equal(base.velocity(z, t, given), expected)
        kinds = {name: type(p).__name__ for name, p in base.transformer.named_parameters()}
        assert {kind for name, kind in kinds.items() if ".lora_" in name} == {"Parameter"}
        frozen = [n for n, p in base.transformer.named_parameters() if p.ndim >= 2 and ".lora_" not in n]
        assert {kinds[name] for name in frozen if "scale_shift" not in name} == {"DTensor"}
    finally:
        torch.distributed.destroy_process_group()


GIVEN = {"control": torch.randn(2, 24, 3, 4, 4), "prompt": torch.randn(2, 7, 16)}
Z = torch.randn(2, 4, 3, 4, 4)


def test_an_expert_that_another_process_needs_is_gone_through_and_changes_nothing() -> None:
    base = WanVace(tiny_wan.pipeline(experts=2))
    trained = LoraPolicy(base, AdapterConfig(rank=2), None, 0)
    second = [p for name, p in trained.parameters.items() if name.startswith("transformer_2.")]
    asked = []

    def agree(used: Any) -> list[bool]:
        asked.append(list(used))
        return [True, True]

    for t in ([0.95, 0.9], [0.95, 0.1], [0.2, 0.1]):
        base.agree = None
        alone = base.velocity(Z, torch.tensor(t), GIVEN)
        base.agree = agree
        assert torch.equal(base.velocity(Z, torch.tensor(t), GIVEN), alone)
    assert asked == [[True, False], [True, True], [False, True]]
    base.velocity(Z, torch.tensor([0.95, 0.9]), GIVEN).square().mean().backward()
    assert all(p.grad is not None and not p.grad.any() for p in second)


def test_where_all_weights_are_trained_what_is_divided_trains_the_same_and_is_saved_whole(tmp_path: Path) -> None:
    """Of one process: the parts are wholes, and take the way that parts take."""
    found = {}
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for shard in (False, True):
            base = tiny_wan.base()
            trained = FullPolicy(base, later=shard)
            if shard:
                Sharded(base)
                trained.begin()
            out, loop = tmp_path / str(shard), None
            for until in (1, 3):  # the second goes on from the state of the first
                loop = loop_of(trained, out)
                loop.run(loss_of(trained), stop_after=until)
                if shard and until == 1:
                    with torch.no_grad():  # what is in the state is all that counts
                        for parameter in trained.parameters.values():
                            parts.mine(parameter).add_(1.0)
            assert loop is not None
            with loop.averaged():
                trained.collect(keep=True)
                trained.save(out / "model")
            found[shard] = load_file(out / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
            about = json.loads((out / "model" / "transformer" / "config.json").read_text())
            assert about["_class_name"] == "WanVACETransformer3DModel"
    finally:
        torch.distributed.destroy_process_group()
    began = tiny_wan.base().transformer.state_dict()
    assert found[True].keys() == found[False].keys() == began.keys()
    for name, value in found[False].items():
        torch.testing.assert_close(found[True][name], value, rtol=0, atol=1e-5)
    assert max((found[True][name] - began[name]).abs().max() for name in began) > 1e-3
    one, two = (torch.load(tmp_path / str(shard) / "state.pt", weights_only=True) for shard in (False, True))
    for kind in ("weights", "average"):
        assert {n: t.shape for n, t in one[kind].items()} == {n: t.shape for n, t in two[kind].items()}
    for index, moments in one["optimizer"]["state"].items():
        torch.testing.assert_close(two["optimizer"]["state"][index]["exp_avg"], moments["exp_avg"], rtol=0, atol=1e-5)


def loop_of(trained: FullPolicy, out: Path) -> Loop:
    from accelerate import Accelerator

    out.mkdir(exist_ok=True)
    table = TrainTable(steps=3, batch=1, lr=1e-2, warmup=0, ema=0.9, precision="fp32", weight_decay=0.1)
    return Loop(table, trained, Items(("a", "b"), 0, 0), out, "run", Accelerator(cpu=True))


def loss_of(trained: FullPolicy) -> Any:
    given = {name: value[:1] for name, value in GIVEN.items()}

    def loss(index: Any, draws: Any) -> Any:
        t = torch.tensor([0.2 + 0.1 * index[0]])
        made = trained.base.velocity(Z[:1], t, given)
        with trained.reference():
            before = trained.base.velocity(Z[:1], t, given)
        return (made - 2 * before).square().mean(), {}

    return loss


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])  # of four, two have no case to look at
def test_looks_are_shared_and_find_what_one_process_finds(
    training_server: Server, folder: Path, tmp_path: Path, count: int
) -> None:
    watch_both(folder)
    changes = {"train": {"steps": 1, "batch": count}, "watch": {"cases": 2, "steps": 1}}
    several_and_one(training_server, folder, tmp_path, "sft", changes, count)
    one, two = ((tmp_path / name / "watch.jsonl").read_text().splitlines() for name in ("one", "two"))
    assert one[0] == two[0]  # before the first step: the same bits
    assert len(one) == len(two) == 2
    made = sorted(path.name for path in (tmp_path / "two" / "samples" / "000000").glob("*.mp4"))
    assert made == ["tess_seed0.mp4", "vera_seed0.mp4"]
