"""The table of kinds: what a suite can name is in it, and one more line is all that another base model needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("diffusers")

import torch
from torch import Tensor

from ipa_bench import harness, video
from ipa_bench.harness import generate
from ipa_bench.harness.before import post_training
from ipa_bench.models import kinds
from ipa_bench.models.base import References, Rung
from ipa_bench.models.outline import Shape
from ipa_bench.models.specs import EMBEDDED, BaseSpec, FolderSpec, WanVaceSpec, WrittenSpec
from ipa_bench.suite import Suite
from ipa_bench.types import Case
from tests.clips import smooth
from tests.models.toy_base import KIND, Toy, ToySpec


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more line of the table."""
    monkeypatch.setitem(kinds.KINDS, "toy", KIND)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Two cases, each with a person, and one model that is sampled plainly and with guidance."""
    cases = []
    for name, shade in (("anna", 40), ("bert", 200)):
        video.encode(smooth(5, 32, 48), tmp_path / f"{name}.mp4", 10)
        person = np.full((1, 32, 48, 3), shade, np.uint8)
        video.encode(person, tmp_path / f"{name}_person.mp4", 10, crf=0)
        cases.append(
            Case(name, tmp_path / f"{name}.mp4", tmp_path / f"{name}.mp4", tmp_path / f"{name}_person.mp4", prompt="x")
        )
    models = (
        ToySpec(name="toy", kind="toy", model="toy", steps=2),
        ToySpec(name="toy, guided", kind="toy", model="toy", steps=2, guidance=2.0),
        FolderSpec(name="folder", kind="folder", path=tmp_path),
    )
    return Suite("demo", tuple(cases), models, seeds=(0, 1))


def test_every_kind_that_a_suite_file_can_name_is_a_line_of_the_table() -> None:
    written = get_args(get_args(WrittenSpec)[0])
    assert {name: kind.spec for name, kind in kinds.KINDS.items()} == {
        get_args(spec.model_fields["kind"].annotation)[0]: spec for spec in written
    }


@pytest.mark.usefixtures("toy")
def test_a_line_of_the_table_is_enough_to_generate_and_to_go_on(suite: Suite, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert generate.generate(suite, folder) == generate.Outcome(8, 0, 0)
    assert generate.generate(suite, folder) == generate.Outcome(0, 8, 0)
    plans = generate.plans(suite, folder)
    assert {name: plan.source for name, plan in plans.items()} == {
        "toy": "toy toy, 2 steps", "toy, guided": "toy toy, 2 steps",
    }  # fmt: skip
    assert plans["toy"].packages == ("numpy",)
    for case, shade in (("anna", 40), ("bert", 200)):
        clip = video.load(folder / "videos" / "toy" / f"{case}_seed1.mp4").frames
        assert clip.shape == (5, 32, 48, 3)  # the person stood over the end of time, and is gone
        assert np.abs(clip.astype(int) - shade).max() <= 4
        guided = video.load(folder / "videos" / "toy, guided" / f"{case}_seed1.mp4").frames
        assert np.abs(guided.astype(int) - min(255, 2 * shade)).max() <= 4


@pytest.mark.usefixtures("toy")
def test_its_work_is_counted_by_its_own_outline(suite: Suite, tmp_path: Path) -> None:
    from ipa_bench.cost import ledger

    generate.generate(suite, tmp_path / "run")
    (phase,) = (phase for phase in ledger.read(tmp_path / "run").total.phases if phase.name == "generate")  # type: ignore[union-attr]
    tokens = 5 * 32 * 48
    assert phase.items.value == 8
    # two steps; one pass without guidance and three with it
    assert phase.tokens.value == 4 * 2 * tokens + 4 * 2 * 3 * tokens
    assert phase.flops == phase.tokens
    # each case was encoded once, for the model that came first, and that is no part of what its clips cost
    of = ledger.read(tmp_path / "run").of
    encoded = {name: [p.items.value for p in sheet.phases if p.name == "encode"] for name, sheet in of.items()}
    assert encoded == {"toy": [2], "toy, guided": []}


@pytest.mark.usefixtures("toy")
def test_a_run_scores_it(suite: Suite, tmp_path: Path) -> None:
    from ipa_bench.harness.header import prepare

    prepared = prepare(suite, tmp_path / "run")
    assert [model.source for model in prepared.header.models][:2] == ["toy toy, 2 steps"] * 2
    assert "numpy" in prepared.header.environment
    assert post_training(suite) == {}
    assert harness.matches(suite).keys() == {"folder"}


def test_a_checkpoint_is_of_the_first_kind_that_knows_it(toy: None, tmp_path: Path) -> None:
    assert kinds.base_of(EMBEDDED) == kinds.base_of("Wan-AI/Wan2.1-VACE-1.3B-diffusers") == "wan_vace"
    assert kinds.base_of("toy model") == "toy"
    assert kinds.base_of(str(tmp_path)) == "wan_vace"  # nobody's: the first of the table says what is wrong with it
    for name, content in (("other", '{"_class_name": "WanPipeline"}'), ("torn", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(content)
        assert not kinds.KINDS["wan_vace"].clips.owns(str(tmp_path / name))  # type: ignore[union-attr]
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "WanVACEPipeline"}')
    assert kinds.KINDS["wan_vace"].clips.owns(str(tmp_path / "other"))  # type: ignore[union-attr]


def test_what_is_no_base_model_is_none(tmp_path: Path) -> None:
    folder: Any = FolderSpec(name="f", kind="folder", path=tmp_path)
    with pytest.raises(TypeError, match="folder is no base model"):
        kinds.base_kind(folder)
    wan = WanVaceSpec(name="w", kind="wan_vace", model=EMBEDDED)
    assert kinds.found(wan) is None
    assert wan.loaded != wan.model_copy(update={"dtype": "fp32"}).loaded
    assert wan.loaded == wan.model_copy(update={"steps": 3, "guidance": 2.0, "name": "other"}).loaded


def test_a_ladder_of_three_passes_is_the_sum_that_its_paper_writes() -> None:
    """v = v_n + 5 (v_i − v_n) + 7.5 (v_it − v_i), each velocity asked for once."""
    asked: list[float] = []

    class Numbers(Toy):
        def velocity(self, z: Tensor, t: Tensor, condition: Any) -> Tensor:
            asked.append(condition["v"])
            return torch.full_like(z, condition["v"])

    z, t = torch.zeros(1, 3, 1, 2, 2), torch.ones(1)
    found = Numbers().guided(z, t, [Rung({"v": 1.0}), Rung({"v": 3.0}, 5.0), Rung({"v": 4.0}, 7.5)])  # type: ignore[dict-item]
    assert torch.equal(found, torch.full_like(z, 1 + 5 * 2 + 7.5 * 1))
    assert asked == [1.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="at least one rung"):
        Numbers().guided(z, t, [])


@pytest.mark.parametrize("place", ["front", "back"])
def test_reference_frames_that_are_noised_are_a_part_of_the_flow(place: Any) -> None:
    where, clip = References(place, noised=True), torch.arange(6.0).reshape(1, 1, 3, 2, 1)
    flow = where.beside(clip, 2, fill=9.0, axis=2)
    expected = [9, 9, 9, 9, 0, 1, 2, 3, 4, 5] if place == "front" else [0, 1, 2, 3, 4, 5, 9, 9, 9, 9]
    assert flow.flatten().tolist() == expected
    assert torch.equal(where.clip(flow, 3), clip)
    assert where.beside(clip, 0, fill=9.0, axis=2) is clip
    with pytest.raises(ValueError, match="a flow of 3 latent frames"):
        where.clip(clip, 4)


def test_clean_reference_frames_are_none() -> None:
    where, clip = References("back", noised=False), torch.zeros(1, 1, 3, 2, 1)
    assert torch.equal(where.clip(clip, 3), clip)
    with pytest.raises(ValueError, match="does not hold a clip of 2"):
        where.clip(clip, 2)


@pytest.fixture(autouse=True)
def _cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))


def test_spec_of_a_base_says_all_that_generators_ask() -> None:
    assert BaseSpec.model_fields.keys() == WanVaceSpec.model_fields.keys()
    assert Shape(2, 4, 6, text=1, batch=3).tokens((1, 2, 2)) == 3 * 2 * 2 * 3
