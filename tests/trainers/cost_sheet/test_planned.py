"""What a run is said to take beforehand: counted by hand, and what a run then left on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipa_bench.files import LORA_FILE
from ipa_bench.models.outline import Lora
from ipa_bench.models.wan import outline as wan
from tests.trainers import tiny_runs
from trainers import config as train_config
from trainers.config import WatchConfig
from trainers.cost_sheet import planned
from trainers.cost_sheet.rounds import PEAK, SHARE

SHIPPED = Path(train_config.__file__).parent / "configs" / "ipa-wan-1.3b.toml"


def test_a_14b_run_by_hand() -> None:
    outline = wan.named("wan2.1-vace-14b", random_weights=True)
    shape = outline.shape(*outline.fitting(81, (832, 480)))
    config = train_config.load(SHIPPED)
    found = planned.work(config, "ipa", outline, shape, watched=8)
    # 1000 updates of 8 clips; looks at 0, 250, 500, 750 and 1000 at a sample of 30 guided steps of each of 8 cases
    once = outline.update_flops(shape, Lora(128), checkpointing=True, reference=True)
    assert found.updates == 8000 * once
    assert found.looks == 5 * 8 * 30 * 2 * outline.forward_flops(shape, Lora(128))
    assert found.hours(8) == pytest.approx((found.updates + found.looks) / (8 * PEAK * SHARE * 3600))
    plain = train_config.changed(config, {"loss": {}, "train": {"steps": 500}, "watch": {"every": 0, "cases": 0}})
    assert planned.work(plain, "sft", outline, shape, watched=0).updates == 4000 * outline.update_flops(
        shape, Lora(128), checkpointing=True
    )
    kept = planned.disk(config, "ipa", outline, shape, clips=100, cases=50, start=None)
    # 21 latent frames of 60 x 104 and one of the reference, which is given: 16 channels and a mask in fp32; 32 in bf16
    assert kept.encoded == 100 * 4 * 17 * 21 * 60 * 104 + 50 * 2 * 32 * 22 * 60 * 104
    adapter = outline.training_bytes("bf16", Lora(128)).adapter
    assert kept.result == adapter
    assert kept.state == pytest.approx(3 * adapter, rel=1e-4)
    assert kept.most == kept.encoded + 2 * kept.state + kept.result


@pytest.mark.parametrize(("every", "count"), [(0, 2), (3, 5), (5, 3), (10, 2)])
def test_looks_are_at_both_ends_and_between(every: int, count: int) -> None:
    assert planned.looks(WatchConfig(every=every), 10) == count


def test_what_was_said_is_what_lies_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    folder = tiny_runs.write(tmp_path / "material")
    changes = {"train": {"steps": 1, "batch": 2, "ema": 0.9}, "adapter": {"half": True}}
    job = tiny_runs.job(folder, "nft", changes)
    outline = wan.of_folder("tiny", folder / "model")
    shape = outline.shape(*outline.fitting(tiny_runs.FRAMES, (tiny_runs.SIDE, tiny_runs.SIDE)))
    cases = len({clip.case.id for clip in job.data.all})
    said = planned.disk(job.config, "nft", outline, shape, len(job.data.all), cases, None)
    out = tmp_path / "out"
    tiny_runs.train(folder, out, "nft", changes)
    arrays = [
        array.nbytes
        for kind in ("control", "latents", "mask")
        for file in (tmp_path / "cache" / "encoded" / kind).rglob("*.npz")
        for array in np.load(file).values()
    ]
    assert sum(arrays) == said.encoded
    files = {"state": out / "state.pt", "result": out / "lora" / LORA_FILE}
    for name, file in files.items():  # names and headers beside the tensors
        assert getattr(said, name) <= file.stat().st_size <= getattr(said, name) + 60_000, name
