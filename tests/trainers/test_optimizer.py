"""The optimizer of 8 bits: refused by name where it is not, of the package that is, never imported otherwise."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ipa_bench.errors import UserError
from tests.trainers import tiny_runs
from trainers import optimizer
from trainers import run as training
from trainers.spent import held


class Bytes(torch.optim.AdamW):
    """AdamW as a package has it; how it was made."""

    made: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.made.append(options)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with an ``AdamW8bit``, and none of the other name."""
    package = types.ModuleType("bitsandbytes.optim")
    package.AdamW8bit = Bytes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", types.ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", package)
    monkeypatch.setattr(optimizer, "find_spec", lambda name: object() if name == "bitsandbytes" else None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


EIGHT = {"train": {"optimizer": "adamw8bit"}}


def test_without_a_package_it_is_refused_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'"adamw8bit" needs .* neither bitsandbytes nor torchao is installed') as error:
        tiny_runs.job(folder, "sft", EIGHT)
    assert error.value.fix == "pip install bitsandbytes"


def test_nothing_of_it_is_imported_where_it_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "import_module", lambda name: pytest.fail(name))
    optimizer.check("adamw")
    made = optimizer.build("adamw", [nn.Parameter(torch.ones(2))], lr=1e-3, weight_decay=0.0)
    assert type(made) is torch.optim.AdamW


@pytest.mark.usefixtures("there")
def test_a_run_takes_it_and_its_state_is_of_another_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    Bytes.made.clear()
    changes = {"train": {"optimizer": "adamw8bit", "steps": 2, "weight_decay": 0.1, "batch": 1}}
    job = tiny_runs.job(folder, "sft", changes)
    training.train(job, tmp_path / "out", stop_after=1)
    assert training.train(job, tmp_path / "out") is not None
    assert Bytes.made == 2 * [{"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 0.1}]
    plain = {"train": {**changes["train"], "optimizer": "adamw"}}
    other = tiny_runs.job(folder, "sft", plain)
    assert other.key != job.key
    outline = _Outline()
    assert held(job.config, None, outline).optimizer == held(other.config, None, outline).optimizer // 4  # type: ignore[arg-type]


class _Outline:
    def training_bytes(self, *_: Any, **__: Any) -> Any:
        from ipa_bench.models.outline import Bytes as Held

        return Held(100, 40, 40, 84, 0, 0)


@pytest.mark.usefixtures("there")
def test_a_package_without_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["bitsandbytes.optim"], "AdamW8bit")
    with pytest.raises(UserError, match="bitsandbytes has no usable AdamW8bit"):
        optimizer.build("adamw8bit", [nn.Parameter(torch.ones(2))], lr=1.0, weight_decay=0.0)
