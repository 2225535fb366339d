"""What version 0.1 left on disk is read and gone on with: see ``tests/data/v0_1/README.md``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.behaviour.sample import NAME, ROOT
from tests.conftest import Tool

OLD = Path(__file__).parents[1] / "data" / "v0_1"
LORA = "pytorch_lora_weights.safetensors"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The old folders in the working directory of ``tool``, with the places of their files as they are now."""
    folder = tmp_path / "old"
    shutil.unpack_archive(OLD / f"{NAME}.zip", folder)
    for path in (folder / "aligned").rglob("*.json*"):
        path.write_text(path.read_text().replace(ROOT, str(folder)))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file of what was made and measured: reports and cost sheets are written anew."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    kinds = (".mp4", ".safetensors", ".jsonl", ".npz")
    return {name: path.read_bytes() for name, path in files.items() if name.endswith(kinds) and "report/" not in name}


def test_a_run_is_reported(old: Path, tool: Tool) -> None:
    result = tool("report", "old/aligned/evaluation", "-j", 1)
    assert result.returncode == 0, result.stderr
    assert "2 models, 2 cases of 2 identities" in result.stdout
    report = json.loads((old / "aligned" / "evaluation" / "report.json").read_bytes())
    kept = json.loads((old / "aligned" / "evaluation" / "run.json").read_bytes())
    assert [row["model"] for row in report["leaderboard"]["rows"]] == ["base", "aligned"]
    assert report["run"]["suite_hash"] == kept["suite_hash"]
    assert len(report["videos"]) == 4
    assert all(video["scores"] for video in report["videos"])


def test_an_alignment_goes_on_where_it_stopped(old: Path, training_tool: Tool) -> None:
    """The LoRA is saved again from the training's state, the clip that is lacking is made with it; no other is."""
    before = content(old / "aligned")
    train, videos = old / "aligned" / "round1" / "train", old / "aligned" / "evaluation" / "videos" / "aligned"
    card = json.loads((train / "lora" / "card.json").read_bytes())
    shutil.rmtree(train / "lora")
    lacking = sorted(videos.glob("*.mp4"))[0]
    lacking.unlink()
    result = training_tool("align", "old/suite.toml", "-c", "old/align.toml", "-o", "old/aligned", "-j", 1)
    assert result.returncode == 0, result.stderr
    after = content(old / "aligned")
    made = lacking.relative_to(old / "aligned").as_posix()
    # hand_quality has another version since: videos that are there are scored by it, beside what the old one said
    assert before.keys() <= after.keys()
    assert {Path(name).parent.name for name in after.keys() - before.keys()} == {"scores", "floor"}
    # a clip is the same to the bit on the machine that made it
    changed = {name for name in before if after[name] != before[name]} - {made}
    assert {name for name in changed if Path(name).parent.name != "details"} == set()
    assert json.loads((train / "lora" / "card.json").read_bytes())["run"] == card["run"]
