"""Post-training through the whole stack, in this process: files in, a LoRA and its card out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ipa_bench.cost.ledger import beside_lora
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from tests import tiny_wan
from tests.trainers import tiny_runs
from tests.trainers.tiny_runs import train
from trainers import config as train_config
from trainers import run as training
from trainers.methods import MethodName


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """Material that a test may spoil."""
    shutil.copytree(plain, tmp_path / "own")
    tiny_runs.select(tmp_path / "own", tiny_runs.PEOPLE)
    return tmp_path / "own"


@pytest.fixture(autouse=True)
def _alone(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tiny_runs.own_cache(tmp_path / "cache", plain)))


#: how a policy and its reference begin
STARTS: dict[str, Callable[[Path], dict[str, dict[str, Any]]]] = {
    "lora": lambda folder: {},
    "continued": lambda folder: {"model": {"lora": str(folder / "lora")}},
    "full": lambda folder: {"adapter": {"full": True}},
    "half": lambda folder: {"model": {"dtype": "bf16"}, "train": {"precision": "bf16"}},
    "full, autocast": lambda folder: {"adapter": {"full": True}, "train": {"precision": "bf16"}},
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("method", ["ipa", "dpo"])
def test_the_first_loss_is_log_2_and_then_something_moves(
    plain: Path, tmp_path: Path, method: MethodName, start: str
) -> None:
    changes = STARTS[start](plain)
    changes = {**changes, "train": {"steps": 3, "lr": 1e-4, **changes.get("train", {})}}
    train(plain, tmp_path / "out", method, changes)
    log = tiny_runs.log(tmp_path / "out")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert (log[0]["gap"], log[0]["gate"], log[0]["win"]) == (0, 0.5, 0.5)
    assert all(line["norm"] > 0 and math.isfinite(line["loss"]) for line in log)
    assert all(line["gap"] != 0 for line in log[1:])


@pytest.mark.parametrize("method", ["sft", "ipa", "dpo", "wsft", "nft"])
def test_micro_batches_accumulate_to_the_batch(plain: Path, tmp_path: Path, method: MethodName) -> None:
    """1 x 4 is 4 x 1: the gradients of all matrices agree to rounding."""
    for micro in (1, 4):
        changes = {"model": {"lora": str(plain / "lora")}, "train": {"batch": 4, "micro_batch": micro, "steps": 1}}
        train(plain, tmp_path / str(micro), method, changes)
    tiny_runs.assert_same_gradients(tmp_path / "1", tmp_path / "4", method)


@pytest.mark.parametrize("full", [False, True])
def test_an_old_policy_follows_now_and_then(plain: Path, tmp_path: Path, full: bool) -> None:
    changes = {
        "adapter": {"full": full},
        "train": {"steps": 4, "save_every": 1, "lr": 1e-4 if full else 1e-2},
        "methods": {"nft": {"old_every": 2, "old_rate": 0.25}},
    }
    job = tiny_runs.job(plain, "nft", changes)
    states = []
    for step in range(1, 5):
        training.train(job, tmp_path / "out", stop_after=step)
        states.append(tiny_runs.state(tmp_path / "out"))
    name = max(states[0]["old"], key=lambda n: float((states[0]["old"][n] - states[0]["weights"][n]).abs().max()))
    old, mine = ([state[kind][name] for state in states] for kind in ("old", "weights"))
    assert not torch.equal(old[0], mine[0])
    torch.testing.assert_close(old[1], 0.25 * old[0] + 0.75 * mine[1])
    assert torch.equal(old[2], old[1])
    torch.testing.assert_close(old[3], 0.5 * old[2] + 0.5 * mine[3])
    log = tiny_runs.log(tmp_path / "out")
    assert [line["moved"] for line in log][:1] == [0.0]  # it begins as the policy
    assert all(line["moved"] > 0 for line in log[1:])
    about = json.loads((tmp_path / "out" / "lora" / "card.json").read_text())
    assert about["reference"] == "none: NFT has no reference"
    assert about["options"]["old_rate"] == 0.25
    assert about["data"]["clips"] == 4  # those of cleo are equals, and say nothing


def test_tiles_of_the_autoencoder_are_those_of_encoding_and_looking_too(plain: Path) -> None:
    tiled = tiny_runs.job(plain, "sft", {"model": {"vae_tiling": True}})
    assert tiled.spec.vae_tiling
    assert tiled.key != tiny_runs.job(plain, "sft").key
    for setting in ({"shard": True}, {"gradient_checkpointing": True}):  # how it is done, not what comes of it
        assert tiny_runs.job(plain, "sft", {"train": setting}).key == tiny_runs.job(plain, "sft").key


def test_settings_of_a_method_are_part_of_its_run_and_of_no_other(plain: Path) -> None:
    def key(method: MethodName, changes: tiny_runs.Changes = tiny_runs.NOTHING) -> str:
        return tiny_runs.job(plain, method, changes).key

    for method, setting in (("ipa", {"logit": "relative"}), ("dpo", {"sft": 1.0}), ("wsft", {"temperature": 2.0})):
        assert key(method) != key(method, {"methods": {method: setting}})
        assert key("sft") == key("sft", {"methods": {method: setting}})
    assert key("ipa", {"methods": {"ipa": {"logit": "absolute"}}}) == key("ipa")
    with pytest.raises(UserError, match="temperature"):
        tiny_runs.job(plain, "wsft", {"methods": {"wsft": {"temperature": 0.0}}})


#: of DPO the reference is asked about two clips of a pair; of IPA, about one of them
@pytest.mark.parametrize("method", [pytest.param("ipa", marks=pytest.mark.slow), "dpo"])
def test_a_remembered_reference_changes_nothing(plain: Path, tmp_path: Path, method: MethodName) -> None:
    changes = {"train": {"draws": 1}}
    known = tmp_path / "cache" / "reference"
    train(plain, tmp_path / "computed", method, {"train": {**changes["train"], "cache_reference": False}})
    assert not known.exists()
    train(plain, tmp_path / "remembered", method, changes)
    (file,) = known.rglob("*.jsonl")
    count = len(file.read_text().splitlines())
    # a kill cut a line off, and something else is there
    file.write_bytes(file.read_bytes()[:-9] + b"\n\x00\xff{}\n")
    train(plain, tmp_path / "again", method, changes)
    for name in ("remembered", "again"):
        tiny_runs.assert_same_state(tmp_path / "computed", tmp_path / name)
        assert tiny_runs.log(tmp_path / "computed") == tiny_runs.log(tmp_path / name)
    assert sum(len(each.read_text(errors="replace").splitlines()) for each in known.rglob("*.jsonl")) == count + 2
    computed, again = (beside_lora(tmp_path / name / "lora") for name in ("computed", "again"))
    flops = [phase.flops.value for cost in (computed, again) if cost for phase in cost.phases if phase.name == "train"]
    assert flops[0] > flops[1]  # a pass of the reference that is known is none
    # another seed has other noise, and other settings another reference
    train(plain, tmp_path / "other", method, {"train": {**changes["train"], "seed": 1}})
    assert len(list(known.iterdir())) == 2


def test_the_result_is_a_lora_with_a_card(plain: Path, tmp_path: Path) -> None:
    from diffusers import WanVACEPipeline

    told: list[tuple[str, int, int]] = []

    def tell(stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        told.append((stage, done, total))

    file = train(plain, tmp_path / "out", "ipa", {"train": {"ema": 0.5}}, tell=tell)
    assert told == [("encode", i, 3) for i in (1, 2, 3)] + [("train", i, 6) for i in range(1, 7)]
    assert file == tmp_path / "out" / "lora" / LORA_FILE
    pipe: Any = WanVACEPipeline.from_pretrained(plain / "model", dtype=torch.float32)  # type: ignore[no-untyped-call]
    pipe.load_lora_weights(file.parent)
    loaded = dict(pipe.transformer.named_parameters())
    average = tiny_runs.state(tmp_path / "out")["average"]
    assert average
    assert all(torch.equal(loaded[name.replace(".policy.", ".default_0.")], value) for name, value in average.items())
    about = json.loads((file.parent / "card.json").read_text())
    unfit = about["data"].pop("no_evidence")
    assert "hand.recall@1" in unfit
    assert "rest.psnr@1" not in unfit
    assert about["data"] == {
        "clips": 3, "pairs": None, "candidates": 6, "identities": 3, "latents_kept": 0, "chosen_by": ["hand_quality@4"],
    }  # fmt: skip
    assert about["method"] == "ipa"
    assert "switched off" in about["reference"]
    assert about["trained_values"] == sum(value.numel() for value in load_file(file).values())
    assert about["config"]["train"]["ema"] == 0.5
    spent = beside_lora(file.parent)
    assert spent is not None
    counts = {phase.name: (phase.items.value, phase.unit) for phase in spent.phases}
    assert counts["encode"] == (3, "clip")
    assert counts["train"] == (6 * 2, "clip")
    trained = spent.phase("train")
    assert trained is not None
    assert (trained.flops.value or 0) > 0
    assert about["cost"]["train_seconds"] == round(trained.seconds, 1)
    text = (file.parent / "README.md").read_text()
    assert "hand_quality@4" in text
    assert "no evidence" in text


def test_what_is_finished_is_not_done_again(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = train(plain, tmp_path / "out", "sft")
    content = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("ipa_bench.models.wan.vace.load_lazily", lambda *_: pytest.fail("loaded"))
        assert train(plain, tmp_path / "out", "sft") == file
        # what does not change the result may differ
        assert train(plain, tmp_path / "out", "sft", {"train": {"save_every": 1}, "watch": {"cases": 1}}) == file
        for changes in ({"train": {"steps": 7}}, {"loss": {"hand_weight": 2.0}}, {"adapter": {"rank": 5}}):
            with pytest.raises(UserError, match="another configuration") as error:
                train(plain, tmp_path / "out", "sft", changes)
            assert "--out" in error.value.fix
        with pytest.raises(UserError, match="another configuration"):
            train(plain, tmp_path / "out", "ipa")
    # a LoRA that was damaged since is written again from the state
    file.write_bytes(content[:-1])
    assert train(plain, tmp_path / "out", "sft").read_bytes() == content


def test_a_state_of_another_configuration_is_refused_and_kept(plain: Path, tmp_path: Path) -> None:
    job = tiny_runs.job(plain, "ipa")
    assert training.train(job, tmp_path, stop_after=2) is None
    assert not (tmp_path / "lora").exists()
    content = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(UserError, match=r"state.pt belongs to another configuration"):
        train(plain, tmp_path, "ipa", {"loss": {"beta": 10.0}})
    assert (tmp_path / "state.pt").read_bytes() == content
    (tmp_path / "state.pt").write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"state.pt is damaged"):
        train(plain, tmp_path, "ipa")


def test_a_run_is_the_same_wherever_its_files_lie(plain: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"model": {"lora": str(plain / "lora")}}
    key = tiny_runs.job(plain, "ipa", changes).key
    assert tiny_runs.job(folder, "ipa", {"model": {"lora": str(folder / "lora")}}).key == key
    monkeypatch.chdir(folder)
    config = train_config.changed(train_config.load(Path("ipa.toml")), {"model": {"lora": "lora"}})
    assert training.prepare(config, "ipa").key == key
    others = [{}, {**changes, "train": {"seed": 1}}, {**changes, "data": {"mask": "none"}}]
    keys = {tiny_runs.job(folder, "ipa", each).key for each in others}
    suite = folder / "suite.toml"
    suite.write_text(suite.read_text().replace("this is anna", "somebody"))
    keys.add(tiny_runs.job(folder, "ipa", changes).key)
    assert len(keys - {key}) == 4


def spoil_weight(folder: Path) -> None:
    (file,) = (folder / "model" / "transformer").glob("*.safetensors")
    weights = load_file(file)
    weights["proj_out.weight"][0, 0] = math.nan
    save_file(weights, file, {"format": "pt"})


def spoil_latents(folder: Path) -> None:
    from ipa_bench.video import file_sha256

    clip = tiny_runs.clip_of(folder, "cleo", 0)
    latents = clip.with_suffix(".safetensors")
    save_file({"latents": torch.full((4, 3, 4, 4), math.nan)}, latents)
    clip.with_suffix(".json").write_text(json.dumps({"latents": f"sha256:{file_sha256(latents)}"}))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [(spoil_weight, "the loss of step 0 is nan"), (spoil_latents, r"cleo_seed0.mp4: its latents is not finite")],
)
def test_what_is_no_number_stops_before_a_step(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=problem):
        train(folder, tmp_path / "out", "ipa")
    assert not (tmp_path / "out" / "state.pt").exists()
    assert not (tmp_path / "out" / "lora").exists()


def test_a_learning_rate_that_is_too_high_keeps_the_last_state(plain: Path, tmp_path: Path) -> None:
    """A weight becomes infinite in training: the step after is not taken, and the state before is there."""
    job = tiny_runs.job(plain, "sft", {"train": {"save_every": 1}})
    training.train(job, tmp_path, stop_after=2)
    state = tiny_runs.state(tmp_path)
    name = next(iter(state["weights"]))
    state["weights"][name][0, 0] = math.inf
    torch.save(state, tmp_path / "state.pt")
    content = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(UserError, match="of step 2 is nan"):
        training.train(job, tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == content
    assert len(tiny_runs.log(tmp_path)) == 2


def no_model(folder: Path) -> tiny_runs.Changes:
    return {"model": {"model": str(folder / "nothing")}}


def no_lora(folder: Path) -> tiny_runs.Changes:
    return {"model": {"lora": str(folder / "nothing.safetensors")}}


def odd_lora(folder: Path) -> tiny_runs.Changes:
    save_file({"weight": torch.zeros(1)}, folder / "odd.safetensors")
    return {"model": {"lora": str(folder / "odd.safetensors")}}


def watched(folder: Path) -> tiny_runs.Changes:
    tiny_runs.select(folder, ("anna", "vera"))
    return {"watch": {"cases": 1}}


def no_mask(folder: Path) -> tiny_runs.Changes:
    suite = folder / "suite.toml"
    suite.write_text(suite.read_text().replace('mask = "mask_vera.mp4"\n', ""))
    return {"watch": {"cases": 1}}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (no_model, "nothing is not a folder"),
        (no_lora, "nothing.safetensors cannot be read"),
        (odd_lora, "odd.safetensors holds no LoRA"),
        (watched, "vera would be trained on and watched"),
        (no_mask, "case vera has no mask video"),
    ],
)
def test_bad_input_is_said_before_anything_is_loaded(
    folder: Path, spoil: Callable[[Path], tiny_runs.Changes], problem: str
) -> None:
    changes = spoil(folder)
    with pytest.raises(UserError, match=problem):
        tiny_runs.job(folder, "ipa", changes)


def test_a_lora_of_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    file = tiny_wan.save_lora(folder / "wide") / LORA_FILE
    wide = {n: v.repeat(1, 2) if "lora_A" in n else v.repeat(2, 1) for n, v in load_file(file).items()}
    save_file(wide, file)
    with pytest.raises(UserError, match=r"wide/pytorch_lora_weights.safetensors does not fit"):
        train(folder, tmp_path / "out", "ipa", {"model": {"lora": str(folder / "wide")}})


@pytest.mark.parametrize(("name", "problem"), [("tensorbord", "tensorbord"), ("comet_ml", "comet_ml is not installed")])
def test_a_tracker_that_is_not_there_is_said_before_the_work(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: str
) -> None:
    monkeypatch.setattr("ipa_bench.models.wan.vace.load_lazily", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UserError, match=rf"train.trackers: .*{problem}"):
        train(plain, tmp_path, "ipa", {"train": {"trackers": [name]}})


def test_an_out_that_cannot_be_written_is_named(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write in"):
        train(plain, tmp_path / "file" / "out", "ipa")


def test_gradient_checkpointing_changes_memory_alone(plain: Path, tmp_path: Path) -> None:
    for name, on in (("plain", False), ("checkpointed", True)):
        changes = {"train": {"gradient_checkpointing": on, "steps": 2}, "adapter": {"dropout": 0.3}}
        train(plain, tmp_path / name, "ipa", changes)
    for a, b in zip(tiny_runs.log(tmp_path / "plain"), tiny_runs.log(tmp_path / "checkpointed"), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
