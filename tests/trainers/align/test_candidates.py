"""What a round's candidates are scored by."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from ipa_bench import harness
from ipa_bench.harness.header import metrics_of
from ipa_bench.store import RunStore
from ipa_bench.suite import load_suite
from tests.trainers.align import tiny_align
from trainers.align.config import AlignConfig, ChooseConfig
from trainers.align.stages import Alignment, alignment


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_align.write(tmp_path_factory.mktemp("material")) / "suite.toml"


def work(suite: Path, out: Path, method: str = "ipa", **choose: object) -> Alignment:
    config = AlignConfig.model_validate({"method": method, "choose": ChooseConfig.model_validate(choose)})
    return alignment(load_suite(suite), suite, config, out)


def test_candidates_are_scored_by_what_chooses_among_them(suite: Path, tmp_path: Path) -> None:
    def ids(made: Alignment) -> list[str]:
        return [metric.info.id for metric in metrics_of(made.candidates(1))]

    quality = ids(work(suite, tmp_path))
    assert quality[0].startswith("hand_quality@")
    assert all(name.startswith("hand_quality") for name in quality)
    assert ids(work(suite, tmp_path, metric="frame.psnr")) == ["frame.psnr@1"]
    # a reward that is no metric looks at clips when it is asked
    assert ids(work(suite, tmp_path, metric="video:embedded")) == ["frame.psnr@1"]
    assert ids(work(suite, tmp_path, "dpo", pairs="all")) == quality
    # that no metric contradicts a pair takes all of them
    assert set(ids(work(suite, tmp_path, "dpo"))) > {*quality, "rest.psnr@1"}


def test_a_folder_that_was_begun_with_all_metrics_goes_on_with_them(suite: Path, tmp_path: Path) -> None:
    made = work(suite, tmp_path)
    for strict in (True, False):
        wanted = made.candidates(1, strict=strict)
        RunStore.open(tmp_path / "round1" / "candidates", harness.prepare(wanted, tmp_path / "x").header).close()
        again = made.candidates(1)
        assert metrics_of(again) == metrics_of(made.candidates(1, strict=True))
