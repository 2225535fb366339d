"""The loop without labels on a pipeline with random weights: whole, killed, in parts, in two rounds."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("diffusers")


from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE, file_sha256
from ipa_bench.select import read_candidates, read_pairs, read_selection
from ipa_bench.store import RunStore, Unit
from ipa_bench.suite import load_suite
from tests.forked import Server
from tests.trainers.align import tiny_align
from trainers.align import config as align_config
from trainers.align import stages as align
from trainers.align.stages import Alignment

#: what the loop leaves that depends on nothing but suite and configuration
Result = tuple[bytes, str, list[tuple[Unit, str, float | None, str | None]]]


@pytest.fixture(autouse=True)
def _own_cache(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``whole`` observed is known; processes that are killed begin with a cache of their own."""
    monkeypatch.setenv("IPA_BENCH_CACHE", str(whole.out.with_name("cache")))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_align.write(tmp_path_factory.mktemp("material"))


def command(material: Path, out: Path) -> list[str | Path]:
    return ["align", material / "suite.toml", "-c", material / "align.toml", "-o", out, "-j", "1"]


def result(out: Path) -> Result:
    store = RunStore.load(out / "evaluation")
    scores = [(s.unit, s.metric, s.value, s.reason) for s in store.scores()]
    selection = (out / "round1" / "selection.json").read_text().replace(str(out), "OUT")
    return (out / "round1" / "train" / "lora" / LORA_FILE).read_bytes(), selection, scores


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted, and how long it worked."""

    out: Path
    seconds: float


@pytest.fixture(scope="module")
def whole(material: Path, cache_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    cache = tiny_align.own_cache(folder / "cache", cache_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPA_BENCH_CACHE", str(cache))
        began: list[float] = []
        align.align(alignment(material, folder / "out"), jobs=1, progress=lambda *_: began.append(time.monotonic()))
    return Whole(folder / "out", time.monotonic() - began[1])


def alignment(material: Path, out: Path, **changes: object) -> Alignment:
    config = align_config.load(material / "align.toml").model_copy(update=changes)
    return align.alignment(load_suite(material / "suite.toml"), material / "suite.toml", config, out)


def begun(whole: Whole, out: Path, *parts: str) -> Path:
    """A folder that holds parts of what ``whole`` has made, as if the stages that make them had run there."""
    for part in parts:
        shutil.copytree(whole.out / part, out / part)
    return out


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and content."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_candidates_are_chosen_trained_on_and_compared_on_others(whole: Whole) -> None:
    selection = read_selection(whole.out / "round1" / "selection.json")
    assert [row.case for row in selection.rows] == ["train500__take0", "train501__take0"]
    assert (selection.candidates, selection.by) == (4, ("frame.psnr@1",))
    candidates = RunStore.load(whole.out / "round1" / "candidates").records()
    for row in selection.rows:
        of_case = [r for unit, r in candidates.items() if unit[0] == row.case and unit[2] == "candidates"]
        values = {r.seed: next(s.value or 0.0 for s in r.scores if s.metric == "frame.psnr@1") for r in of_case}
        assert row.seed == max(values, key=lambda seed: values[seed])
        assert Path(row.video).with_suffix(".safetensors").is_file()
    card = json.loads((whole.out / "round1" / "train" / "lora" / "card.json").read_bytes())
    assert card["data"]["latents_kept"] == 2
    assert card["reference"] == "the base model: the LoRA switched off"
    store = RunStore.load(whole.out / "evaluation")
    assert {case.id for case in store.header.cases} == {"test0__take0", "test1__take0"}
    assert [(m.name, m.trained_on) for m in store.header.models] == [("base", ()), ("aligned", ("frame.psnr@1",))]
    by_unit = {s.unit: s.value for s in store.scores() if s.metric == "frame.psnr@1"}
    assert by_unit["test0__take0", 0, "base"] != by_unit["test0__take0", 0, "aligned"]
    assert not list((whole.out / "evaluation").rglob("*.safetensors"))  # latents are of candidates alone
    costs = cost_ledger.read(whole.out / "evaluation")
    assert set(costs.of) == {"", "base", "aligned"}
    spent = costs.post_training["aligned"]
    assert spent.base == "base"
    parts = [cost_ledger.read(whole.out / "round1" / part).total for part in ("candidates", "train")]
    phases = [phase for part in parts for phase in part.phases if phase.name != "evaluate"]
    assert {phase.name for phase in phases} == {"generate", "observe", "encode", "train"}
    assert spent.device_hours.value == pytest.approx(sum(phase.process_seconds for phase in phases) / 3600)
    watched = [json.loads(line) for line in (whole.out / "round1" / "train" / "watch.jsonl").read_text().splitlines()]
    assert [line["step"] for line in watched] == [0, 4]


def test_a_second_call_does_nothing_anew(whole: Whole, material: Path) -> None:
    before = files(whole.out)
    seen: list[tuple[str, int, int]] = []
    trained: list[str] = []
    work = alignment(material, whole.out)
    align.align(work, jobs=1, progress=lambda *e: seen.append(e), tell=lambda *e: trained.append(e[0]))
    assert [event for event in seen if event[2]] == []
    assert trained == []
    after = files(whole.out)
    rewritten = {name for name in before if before[name][0] != after[name][0]}
    assert rewritten <= {"round1/selection.json", "round1/candidates/run.json", "evaluation/run.json"}
    assert {n: c for n, (_, c) in after.items() if c} == {n: c for n, (_, c) in before.items() if c}


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_resumed_nothing_differs(
    training_server: Server, whole: Whole, material: Path, cache_folder: Path, tmp_path: Path
) -> None:
    """By default what the stages do is killed alone: clips and scores (harness), training (test_run_processes.py), an
    ablation that trains (test_ablation.py). Stages that are called one by one are the whole, below."""
    kills, rng = 10, random.Random(1)
    expected = result(whole.out)
    killed, attempt = 0, 0
    while killed < kills:
        attempt += 1
        assert attempt <= kills + 3, "it always ends before it can be killed"
        out, said = tmp_path / f"out{attempt}", tmp_path / "said"
        cache = tiny_align.own_cache(tmp_path / f"cache{attempt}", cache_folder)
        while killed < kills:
            process = tiny_align.start(training_server, command(material, out), cache, said)
            if not tiny_align.kill_while_it_works(process, rng.uniform(0, whole.seconds)):
                break
            killed += 1
        else:
            process = tiny_align.start(training_server, command(material, out), cache, said)
        assert process.wait() == 0, process.errors
        assert result(out) == expected


def test_every_stage_alone_leaves_its_own_part(material: Path, whole: Whole, tmp_path: Path) -> None:
    work = alignment(material, tmp_path / "out")
    first = work.round(1)
    with pytest.raises(UserError):
        align.align(work, only=("select",), jobs=1)
    for stage, left, lacking in (
        ("generate", first / "candidates" / "videos", first / "candidates" / "scores"),
        ("score", first / "candidates" / "scores", first / "selection.json"),
        ("select", first / "selection.json", first / "train"),
        ("train", first / "train" / "lora" / LORA_FILE, work.out / "evaluation"),
        ("evaluate", work.out / "evaluation" / "run.json", None),
    ):
        assert not left.exists()
        store = align.align(work, only=(stage,), jobs=1)
        assert left.exists()
        assert lacking is None or not lacking.exists()
        assert (store is None) == (stage != "evaluate")
    assert result(work.out) == result(whole.out)


def test_again_forgets_a_stage_and_those_after_it(material: Path, whole: Whole, tmp_path: Path) -> None:
    def there(out: Path) -> list[str]:
        parts = ("candidates/videos", "candidates/scores", "candidates/run.json", "selection.json", "train")
        found = [f"{n}/{part}" for n in (1, 2) for part in parts if (out / f"round{n}" / part).exists()]
        return found + (["evaluation"] if (out / "evaluation").exists() else [])

    made = ["1/candidates/videos", "1/candidates/scores", "1/candidates/run.json", "1/selection.json", "1/train"]
    for stage, kept in (("evaluate", 5), ("train", 4), ("select", 3), ("score", 1), ("generate", 0)):
        shutil.copytree(whole.out, tmp_path / stage)
        assert there(tmp_path / stage) == [*made, "evaluation"]
        align.forget(alignment(material, tmp_path / stage), stage)
        assert there(tmp_path / stage) == made[:kept]
    # what a second round is made of comes from the first round's LoRA, whatever the stage
    out = tmp_path / "two"
    shutil.copytree(whole.out, out)
    shutil.copytree(out / "round1", out / "round2")
    align.forget(alignment(material, out, rounds=2), "evaluate")
    assert there(out) == [*made, *(name.replace("1", "2", 1) for name in made)]
    align.forget(alignment(material, out, rounds=2), "train")
    assert there(out) == made[:4]


def test_a_second_round_goes_on_from_the_first(material: Path, whole: Whole, tmp_path: Path) -> None:
    out = begun(whole, tmp_path / "out", "round1")
    work = alignment(material, out, rounds=2)
    store = align.align(work, jobs=1)
    assert store is not None
    lora = [work.round(n) / "train" / "lora" / LORA_FILE for n in (1, 2)]
    assert lora[0].read_bytes() == (whole.out / "round1" / "train" / "lora" / LORA_FILE).read_bytes()
    assert lora[1].read_bytes() != lora[0].read_bytes()
    recipes = [json.loads(path.read_bytes()) for path in sorted(out.glob("round*/candidates/videos/*/recipe.json"))]
    assert recipes[0]["lora"] is None
    assert recipes[1]["lora"] == f"sha256:{file_sha256(lora[0])}"
    card = json.loads((lora[1].parent / "card.json").read_bytes())
    assert card["reference"].startswith("the LoRA that training continued from, frozen")
    assert card["config"]["model"]["lora"] == str(lora[0].parent)
    assert [m.name for m in store.header.models] == ["base", "aligned, round 1", "aligned, round 2"]
    scored = [s.value for s in store.scores() if s.metric == "frame.psnr@1" and s.case == "test0__take0"]
    assert len(set(scored) - {None}) == 3  # of three models
    # trained anew otherwise, the first round does not leave the second one behind
    faster = work.config.train.model_copy(update={"lr": 0.02})
    other = alignment(material, out, rounds=2, train=faster)
    with pytest.raises(UserError, match="another configuration"):
        align.align(other, jobs=1)
    align.forget(other, "train")
    align.align(other, only=("generate", "score", "select", "train"), jobs=1)
    assert len({path.read_bytes() for path in lora}) == 2
    assert lora[0].read_bytes() != (whole.out / "round1" / "train" / "lora" / LORA_FILE).read_bytes()


def test_a_control_is_trained_alike_on_clips_that_nobody_chose(material: Path, whole: Whole, tmp_path: Path) -> None:
    out = begun(whole, tmp_path / "out", "round1")
    align.align(alignment(material, out), jobs=1)  # it is asked for when all is done without it
    work = alignment(material, out, control=True)
    store = align.align(work, jobs=1)
    assert store is not None
    assert [m.name for m in store.header.models] == ["base", "aligned", "control, any clips"]
    best, drawn = (read_selection(folder / "selection.json") for folder in (work.round(1), work.control))
    assert [row.case for row in drawn.rows] == [row.case for row in best.rows]
    assert {(row.case, row.seed) for row in drawn.rows} != {(row.case, row.seed) for row in best.rows}
    assert drawn.by == ()
    cards = [
        json.loads((folder / "train" / "lora" / "card.json").read_bytes()) for folder in (work.round(1), work.control)
    ]
    assert cards[0]["config"]["train"] == cards[1]["config"]["train"]
    models = {m.name: m for m in work.evaluation().models}
    assert models["aligned"].trained_on == ("frame.psnr@1",)
    assert models["control, any clips"].trained_on == ()
    values = {s.model: s.value for s in store.scores() if s.metric == "frame.psnr@1" and s.case == "test0__take0"}
    assert len(set(values.values())) == 3
    align.forget(work, "train")
    assert (work.control / "selection.json").exists()
    assert not (work.control / "train").exists()
    with pytest.raises(UserError, match="clips that it makes itself"):
        alignment(material, out, method="grpo")


def test_the_control_of_what_takes_all_candidates_has_their_scores_dealt_out_anew(
    whole: Whole, material: Path, tmp_path: Path
) -> None:
    out = begun(whole, tmp_path / "out", "round1/candidates")
    work = alignment(material, out, method="nft", control=True)
    align.align(work, only=("select",), jobs=1)
    said, dealt = (read_candidates(folder / "candidates.json") for folder in (work.round(1), work.control))
    assert [(row.case, row.seed) for row in said.rows] == [(row.case, row.seed) for row in dealt.rows]
    assert sorted(row.score for row in said.rows) == sorted(row.score for row in dealt.rows)
    assert (said.by, dealt.by) == (("frame.psnr@1",), ())
    assert [model.name for model in work.evaluation().models] == ["base", "aligned", "control, scores dealt anew"]


def test_pairs_are_chosen_for_dpo(whole: Whole, material: Path, tmp_path: Path) -> None:
    choose = align_config.ChooseConfig(metric="frame.psnr", margin=1e-6, pairs="all")
    out = begun(whole, tmp_path / "out", "round1/candidates")
    work = alignment(material, out, method="dpo", choose=choose)
    align.align(work, only=("select", "train"), jobs=1)
    pairs = read_pairs(work.round(1) / "pairs.json")
    assert [pair.case for pair in pairs.preferences] == ["train500__take0", "train501__take0"]
    card = json.loads((work.round(1) / "train" / "lora" / "card.json").read_bytes())
    assert (card["method"], card["data"]["pairs"], card["data"]["clips"]) == ("dpo", 2, 4)


def test_all_candidates_are_trained_on_by_methods_that_use_them(whole: Whole, material: Path, tmp_path: Path) -> None:
    out = begun(whole, tmp_path / "out", "round1/candidates")
    work = alignment(material, out, method="nft")
    align.align(work, only=("select", "train"), jobs=1)
    found = read_candidates(work.round(1) / "candidates.json")
    assert [(row.case, row.seed) for row in found.rows] == [
        (f"train50{i}__take0", seed) for i in range(2) for seed in range(2)
    ]  # fmt: skip
    assert all(row.latents and Path(row.latents).is_file() for row in found.rows)
    card = json.loads((work.round(1) / "train" / "lora" / "card.json").read_bytes())
    assert (card["method"], card["data"]["clips"], card["data"]["latents_kept"]) == ("nft", 4, 4)
    align.forget(work, "select")
    assert not (work.round(1) / "candidates.json").exists()


def test_stages_are_named_in_their_order() -> None:
    with pytest.raises(UserError, match="there is no stage trian"):
        align.stages(["select", "trian"])
    assert align.stages(["train", "select"]) == ("select", "train")
