"""Every base from end to end: it makes clips, learns from them by every method, and plain diffusers loads the LoRA."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

import torch
from safetensors.torch import load_file

from ipa_bench.files import LORA_FILE
from ipa_bench.models import kinds
from ipa_bench.models.checkpoint import lora_parts
from ipa_bench.models.generator import Generator
from ipa_bench.suite import load_suite
from tests import tiny_wan
from tests.trainers import tiny_runs
from trainers import rewards
from trainers.methods import METHODS, find


@dataclass(frozen=True)
class Kind:
    """How a base is made small, and how a plain script of diffusers loads it."""

    name: str
    save: Callable[[Path], Path]
    networks: tuple[str, ...] = ("transformer",)
    #: keys of the base that are not usual, and a case's that these ask for
    keys: Mapping[str, Any] = field(default_factory=dict)
    of_case: str = ""
    #: 5 draws noise levels of both experts about equally often
    shift: float = 1.0


def saved(pipe: Any, folder: Path) -> Path:
    """The pipeline as a diffusers folder."""
    pipe.save_pretrained(folder)
    return folder


KINDS = {
    "one expert": Kind("wan_vace", tiny_wan.save),
    "phantom": Kind("phantom", lambda folder: saved(tiny_wan.phantom(), folder)),
    "animate": Kind("wan_animate", lambda folder: saved(tiny_wan.animate(), folder)),
    "animate, replace": Kind(
        "wan_animate",
        lambda folder: saved(tiny_wan.animate(), folder),
        keys={"mode": "replace"},
        of_case='character_mask = "mask_{name}.mp4"',
    ),
    "two experts": Kind(
        "wan_vace", lambda folder: tiny_wan.save(folder, experts=2), ("transformer", "transformer_2"), shift=5.0
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def material(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kind, Path]]:
    """Clips that the base itself made of three people, chosen for each method."""
    kind = KINDS[request.param]
    patch = pytest.MonkeyPatch()
    patch.setattr("ipa_bench.models.wan.face_crops.detector", lambda: lambda _: [])  # noise has no face
    patch.setattr(tiny_runs, "SUITE", tiny_runs.SUITE + kind.of_case)
    folder = tiny_runs.write(tmp_path_factory.mktemp("material"))
    shutil.rmtree(folder / "model")
    kind.save(folder / "model")
    spec = kinds.KINDS[kind.name].spec(
        name="base", kind=kind.name, model=str(folder / "model"), steps=2, guidance=2.0, dtype="fp32", **kind.keys
    )
    model = Generator(spec, folder / "made")
    for case in load_suite(folder / "suite.toml").cases:
        if case.id in tiny_runs.PEOPLE:  # the better one of each is its own
            shutil.copy(model.generate(case, 0), tiny_runs.clip_of(folder, case.id, 0))
    tiny_runs.select(folder, tiny_runs.PEOPLE)
    tiny_runs.pair(folder)
    tiny_runs.score(folder)
    yield kind, folder
    patch.undo()


#: what asks for most: all candidates, an old policy beside the trained one; the others take longer than they tell
QUICK = {"nft"}


@pytest.mark.parametrize(
    "method", [m.name if m.name in QUICK else pytest.param(m.name, marks=pytest.mark.slow) for m in METHODS]
)
def test_each_method_trains_it_and_diffusers_loads_what_was_trained(
    material: tuple[Kind, Path], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(material[1] / "cache"))
    kind, folder = material
    changes: dict[str, Any] = {"train": {"steps": 2, "batch": 4, "lr": 0.02}, "model": dict(kind.keys)}
    changes["loss"] = {"shift": kind.shift}
    if find(method).takes == "steps":  # of its own sampler
        monkeypatch.setattr(rewards, "REWARDS", (*rewards.REWARDS, tiny_runs.TOY))
        changes = {**tiny_runs.ONLINE, **changes}
    made = tiny_runs.train(folder, tmp_path / "out", method, changes)
    log = tiny_runs.log(tmp_path / "out")
    assert len(log) == 2
    assert log[0]["norm"] > 0
    parts = lora_parts(made)
    assert tuple(parts) == kind.networks
    for network, file in parts.items():
        changed = [value for name, value in load_file(file).items() if ".lora_B." in name and value.any()]
        assert changed, network
    before, after = (_shown(folder / "model", kind, lora) for lora in (None, made.parent))
    for network in kind.networks:
        assert not torch.equal(before[network], after[network])


def _shown(model: Path, kind: Kind, lora: Path | None) -> dict[str, torch.Tensor]:
    """What the networks make of one input, loaded as anybody would."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(model)
    if lora is not None:
        pipe.load_lora_weights(lora, weight_name=LORA_FILE)
        if len(kind.networks) > 1:
            name = "pytorch_lora_weights_2.safetensors"
            pipe.load_lora_weights(lora, weight_name=name, load_into_transformer_2=True)
    found = {}
    for network in kind.networks:
        transformer = getattr(pipe, network)
        torch.manual_seed(0)
        with torch.no_grad():
            found[network] = transformer(
                timestep=torch.tensor([500.0]), encoder_hidden_states=torch.randn(1, 512, transformer.config.text_dim),
                return_dict=False, **_given(transformer.config),
            )[0]  # fmt: skip
    return found


def _given(config: Any) -> dict[str, torch.Tensor]:
    given = {"hidden_states": torch.randn(1, config.in_channels, 3, 4, 4)}
    if "vace_in_channels" in config:
        given["control_hidden_states"] = torch.randn(1, config.vace_in_channels, 3, 4, 4)
    if "motion_encoder_size" in config:
        given["pose_hidden_states"] = torch.randn(1, config.latent_channels, 2, 4, 4)
        given["encoder_hidden_states_image"] = torch.randn(1, 5, config.image_dim)
        given["face_pixel_values"] = torch.randn(1, 3, 5, config.motion_encoder_size, config.motion_encoder_size)
    return given
