"""Clips of a suite's generative models: made, resumed, shared among processes, scored. The weights are random."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("diffusers")


from ipa_bench import harness, video
from ipa_bench.errors import UserError
from ipa_bench.harness import generate
from ipa_bench.models.base import Given
from ipa_bench.models.wan.vace import WanVace
from ipa_bench.store import RunStore
from ipa_bench.suite import Suite, load_suite
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise
from tests.forked import Server

MODELS = """
[[model]]
name = "tiny"
kind = "wan_vace"
model = "model"
dtype = "fp32"
steps = 1
[[model]]
name = "tiny, guided"
kind = "wan_vace"
model = "model"
dtype = "fp32"
steps = 1
guidance = 2.0
[[model]]
name = "bound"
kind = "reencode"
"""


@pytest.fixture(autouse=True)
def _own_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A suite of three cases whose clips show nothing, and two models that share their weights."""
    tiny_wan.save(tmp_path / "model")
    text = "[suite]\nseeds = [0, 1]\n"
    for index in range(3):
        video.encode(noise(5, 32, 48, seed=index), tmp_path / f"c{index}.mp4", 10)
        text += f'[[case]]\ndriving = "c{index}.mp4"\npose = "c{index}.mp4"\nground_truth = "driving"\n'
    (tmp_path / "suite.toml").write_text(text + MODELS)
    return tmp_path / "suite.toml"


def clips(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.mp4"))}


def test_shares_make_together_what_one_process_makes(noisy: Path, tmp_path: Path) -> None:
    suite = load_suite(noisy)
    assert generate.generate(suite, tmp_path / "one") == generate.Outcome(12, 0, 0)
    seen: list[tuple[str, int, int]] = []
    shares = [
        generate.generate(suite, tmp_path / "two", share=(i, 2), progress=lambda *event: seen.append(event))
        for i in range(2)
    ]
    assert shares == [generate.Outcome(6, 0, 0)] * 2
    assert seen[:2] == [("generate", 0, 6), ("generate", 1, 6)]
    assert clips(tmp_path / "one") == clips(tmp_path / "two")
    assert generate.generate(suite, tmp_path / "two") == generate.Outcome(0, 12, 0)


def test_a_case_is_encoded_once_for_models_that_differ_in_their_lora(
    noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = tiny_wan.save_lora(tmp_path / "lora").relative_to(tmp_path)
    tuned = MODELS.partition('[[model]]\nname = "tiny, guided"')[0].replace('"tiny"', '"tuned"')
    noisy.write_text(noisy.read_text().replace("seeds = [0, 1]", "seeds = [0]") + f'{tuned}lora = "{lora}"\n')
    suite, given = load_suite(noisy), []
    encode = WanVace.given

    def counted(self: WanVace, case: Case, pose: Path | None) -> Given:
        given.append(case.id)
        return encode(self, case, pose)

    monkeypatch.setattr(WanVace, "given", counted)
    assert generate.generate(suite, tmp_path / "one") == generate.Outcome(9, 0, 0)
    assert given == ["c0", "c1", "c2"]
    # alone it makes the same
    alone = replace(suite, models=tuple(model for model in suite.models if model.name == "tuned"))
    generate.generate(alone, tmp_path / "alone")
    assert len(given) == 6
    made = clips(tmp_path / "one")
    assert clips(tmp_path / "alone").items() <= made.items()
    assert made["videos/tuned/c0_seed0.mp4"] != made["videos/tiny/c0_seed0.mp4"]


def test_killed_between_clips_it_goes_on(training_server: Server, noisy: Path, tmp_path: Path) -> None:
    command = ["generate", noisy, "--out", tmp_path / "out"]
    process = training_server.start(command, tmp_path, os.environ, tmp_path / "said")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("*_seed*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*_seed*.json")}
    assert done
    outcome = generate.generate(load_suite(noisy), tmp_path / "out")
    assert (outcome.made, outcome.kept) == (12 - len(done), len(done))
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())
    generate.generate(load_suite(noisy), tmp_path / "whole")
    assert clips(tmp_path / "out") == clips(tmp_path / "whole")


def test_a_run_scores_what_was_made_and_goes_on_without_torch(footage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tiny_wan.save(tmp_path / "model")
    video.encode(noise(5, 36, 64), tmp_path / "pose.mp4", 25)
    cases = "".join(
        f'[[case]]\ndriving = "{footage.clips / name}.mp4"\nground_truth = "driving"\n{pose}frames = 5\n'
        "size = [64, 36]\n"
        for name, pose in (("anna__near", 'pose = "pose.mp4"\n'), ("bert__wave", ""))
    )
    (tmp_path / "suite.toml").write_text(cases + MODELS)
    suite = load_suite(tmp_path / "suite.toml")
    seen: list[tuple[str, int, int]] = []
    store = harness.run(suite, tmp_path / "run", jobs=1, progress=lambda *event: seen.append(event))
    assert ("generate", 4, 4) in seen
    assert len(list((tmp_path / "run" / "poses").glob("bert__wave.*.mp4"))) == 1
    records = store.records()
    assert len(records) == 6
    assert all(record.sha256 for record in records.values())
    means = {row.model: row.cells["frame.psnr@1"].mean for row in harness.view(store).leaderboard.rows}
    assert means["bound"] is not None and means["tiny"] is not None  # noqa: PT018
    assert means["bound"] > means["tiny"]
    entries = {model.name: model for model in store.header.models}
    assert entries["bound"].source == "ground truth at CRF 23"
    assert "guidance 2.0" in entries["tiny, guided"].source
    assert {"torch", "diffusers", "transformers"} <= set(store.header.environment)
    # everything is there: neither torch nor a worker is needed
    code = (
        "import sys; from pathlib import Path; from ipa_bench import harness, suite\n"
        "harness.run(suite.load_suite(Path(sys.argv[1])), Path(sys.argv[2]))\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "suite.toml"), str(tmp_path / "run")], check=True)
    (tmp_path / "suite.toml").write_text((cases + MODELS).replace("steps = 1", "steps = 2", 1))
    with pytest.raises(UserError, match=r"model tiny .*steps 1.*now .*steps 2"):
        harness.run(load_suite(tmp_path / "suite.toml"), tmp_path / "run", jobs=1)


def test_what_cannot_be_made_is_a_reason_and_is_not_tried_again(noisy: Path, tmp_path: Path) -> None:
    (tmp_path / "c1.mp4").write_bytes(b"no video")
    suite = Suite("s", load_suite(noisy).cases, load_suite(noisy).models[:1], (0,))
    store = harness.run(suite, tmp_path / "run", jobs=1)
    record = store.records()["c1", 0, "tiny"]
    assert record.sha256 is None
    assert "c1.mp4" in str(record.scores[0].reason)
    shards = len(list((tmp_path / "run" / "scores").glob("*.jsonl")))
    seen: list[tuple[str, int, int]] = []
    harness.run(suite, tmp_path / "run", jobs=1, progress=lambda *event: seen.append(event))
    assert ("generate", 0, 0) in seen
    assert [event for event in seen if event[0] == "score" and event[2] > 1] == []  # the floor of a broken clip
    assert len(list((tmp_path / "run" / "scores").glob("*.jsonl"))) <= shards + 1
    assert RunStore.load(tmp_path / "run").records()["c1", 0, "tiny"] == record


@pytest.mark.slow
def test_processes_of_a_launcher_share_the_work(noisy: Path, tmp_path: Path) -> None:
    script = tmp_path / "go.py"
    script.write_text(
        "import sys; from pathlib import Path; from ipa_bench import suite; from ipa_bench.harness import generate\n"
        "print(generate.generate_share(suite.load_suite(Path(sys.argv[1])), Path(sys.argv[2])))\n"
    )
    # what accelerate launch starts for several GPUs; for several processes on a CPU it would want MPI
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [*command, str(script), str(noisy), str(tmp_path / "out")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Outcome(made=6, kept=0, failed=0)") == 2
    assert len(clips(tmp_path / "out")) == 12
