"""Scenes of the built-in world with known faults, as a model of a suite."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.cli.run import suite_of
from ipa_bench.embedded.group.cases import MODELS, PRIMARY
from ipa_bench.embedded.group.setting import key_of, setting
from ipa_bench.embedded.group.shot import shot
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.harness.header import build
from ipa_bench.models.specs import FaultSpec
from ipa_bench.suite import Suite, load_suite

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def suite() -> Suite:
    return suite_of(ROOT / "benchmarks" / "embedded-people", [], cross_identity=False)


def test_the_suite_of_people_has_people_of_its_own(suite: Suite) -> None:
    assert suite.primary == PRIMARY
    assert len(suite.cases) == len({case.identity for case in suite.cases}) == 12
    assert {case.split for case in suite.cases} == {"test"}
    names = {name for case in suite.cases for name, _ in case.references}
    assert len(names) == 24
    alone = load_suite(ROOT / "benchmarks" / "embedded" / "suite.toml")
    assert not {case.identity for case in alone.cases} & names
    made = [*(m.split('"')[1] for m in MODELS), "pretrained"]  # the tiny checkpoint was trained on pairs
    assert [model.name for model in suite.models] == made


def test_a_fault_changes_its_scene_and_nothing_else(suite: Suite, tmp_path: Path) -> None:
    spec = next(model for model in suite.models if isinstance(model, FaultSpec))
    model = build(spec, tmp_path)
    case = suite.cases[0]
    path = model.generate(case, 0)
    assert isinstance(path, Path)
    frames, clean = video.load(path).frames, shot(setting(key_of(case.world or ""))).frames
    away = np.abs(frames.astype(float) - clean).mean((1, 2, 3))
    assert away[:7].max() < 4
    assert away[9:].min() > 8
    assert model.generate(case, 0) == path
    assert model.generate(case, 1) != path
    with pytest.raises(Unscorable, match="no scene of several people"):
        model.generate(replace(case, world=None), 3)


def test_every_fault_can_be_sent_to_another_process(suite: Suite, tmp_path: Path) -> None:
    specs = [model for model in suite.models if isinstance(model, FaultSpec)]
    assert len(specs) == 3
    for spec in specs:
        model = build(spec, tmp_path)
        assert pickle.loads(pickle.dumps(model)) == model


def test_a_fault_that_is_none_is_named(tmp_path: Path) -> None:
    spec = FaultSpec(name="x", kind="fault", fault="swop")
    with pytest.raises(UserError, match="no fault called 'swop'"):
        build(spec, tmp_path)
