"""What a run folder cost: parts that add up, survive a kill, and are told from what models had cost before."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipa_bench.cost import Amount, Cost
from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.cost.ledger import Ledger, PostTraining, read
from ipa_bench.errors import UserError
from ipa_bench.harness.before import post_training
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.suite import Suite
from tests.cost.test_meter import part


def keep(folder: Path, name: str, owner: str, begin: float, end: float, cost: Cost) -> None:
    (folder / "costs").mkdir(exist_ok=True)
    about = {"owner": owner, "begin": begin, "end": end, "cost": cost.to_json()}
    (folder / "costs" / f"{name}.json").write_text(json.dumps(about))


def test_what_is_measured_is_found_again_by_its_owner(tmp_path):
    for owner in ("", "mine"):
        ledger = Ledger(tmp_path, owner)
        with ledger.phase("observe", unit="video") as phase:
            phase.add(3)
            time.sleep(0.05)
    found = read(tmp_path)
    assert set(found.of) == {"", "mine"}
    assert found.problems == ()
    seen = found.of["mine"].phase("observe")
    assert (seen.items.value, seen.unit, seen.unfinished) == (3, "video", 0)
    assert 0.05 <= seen.seconds < 5
    assert found.total.phase("observe").items.value == 6


def test_nothing_is_written_where_nothing_was_measured(tmp_path):
    Ledger(tmp_path).save()
    assert list(tmp_path.iterdir()) == []
    assert read(tmp_path) == cost_ledger.Costs()


def test_parts_after_each_other_add_time_and_parts_beside_each_other_do_not(tmp_path):
    piece = Cost((part(seconds=2.0, process_seconds=2.0),))
    keep(tmp_path, "a", "m", 0.0, 2.0, piece)
    keep(tmp_path, "b", "m", 0.5, 2.5, piece)
    keep(tmp_path, "c", "m", 10.0, 12.0, piece)
    train = read(tmp_path).of["m"].phase("train")
    assert (train.seconds, train.process_seconds, train.items.value) == (4.0, 6.0, 24)
    assert train.host.value == 1e9  # two at once


def test_a_kill_leaves_what_was_saved(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from ipa_bench.cost import ledger as cost_ledger\n"
        "cost_ledger.EVERY = 0.05\n"
        "ledger = cost_ledger.Ledger(Path(sys.argv[1]))\n"
        "with ledger.phase('observe', unit='video') as phase:\n"
        "    while True:\n"
        "        time.sleep(0.02); phase.add(1); ledger.tick()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("costs/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = read(tmp_path).of[""].phase("observe")
    assert seen.items.value >= 1
    assert seen.unfinished == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"owner": "", "begin": 0, "end": 1, "cost": {"phases": 7}}'])
def test_a_damaged_sheet_is_told_and_the_others_count(tmp_path, content):
    keep(tmp_path, "good", "", 0.0, 1.0, Cost((part(),)))
    (tmp_path / "costs" / "bad.json").write_text(content)
    found = read(tmp_path)
    assert found.of[""].phase("train").items.value == 8
    assert len(found.problems) == 1
    assert "bad.json" in found.problems[0]


def test_parts_that_count_otherwise_are_told(tmp_path):
    keep(tmp_path, "a", "m", 0.0, 1.0, Cost((part(),)))
    keep(tmp_path, "b", "m", 5.0, 6.0, Cost((part(unit="clip"),)))
    found = read(tmp_path)
    assert found.of == {}
    assert "do not add up" in found.problems[0]


def test_a_disk_that_takes_no_sheet_stops_no_work(tmp_path):
    (tmp_path / "costs").write_text("a file where the folder would be")
    with Ledger(tmp_path).phase("observe", unit="video") as phase:
        phase.add(1)
    with pytest.raises(UserError, match="cannot write"):
        cost_ledger.write_post_training(tmp_path, {"a": PostTraining(Amount(1.0), Amount(2.0), "told")})


def test_what_is_no_longer_told_is_forgotten(tmp_path):
    cost_ledger.write_post_training(tmp_path, {"a": PostTraining(Amount(1.0), Amount(2.0), "told")})
    cost_ledger.write_post_training(tmp_path, {})
    assert read(tmp_path).post_training == {}
    (tmp_path / "costs" / "post_training.json").write_text('{"a": {"device_hours": {"value": "much"}}}')
    assert "post_training.json" in read(tmp_path).problems[0]


def test_a_total_is_known_where_every_sheet_is(tmp_path):
    keep(tmp_path, "good", "", 0.0, 1.0, Cost((part(),)))
    assert read(tmp_path).total == Cost((part(),))
    keep(tmp_path, "other", "model", 2.0, 3.0, Cost((part(unit="clip"),)))
    assert read(tmp_path).total is None


def test_memory_is_of_the_gpus_where_there_were_some():
    observed = part("observe", host=Amount(40e9))
    trained = part("train", device_allocated=Amount(20e9), host=Amount(8e9))
    assert PostTraining.measured(Cost((observed, trained)), None).memory.value == 20e9
    assert PostTraining.measured(Cost((observed,)), None).memory.value == 40e9


def wan(name: str, **more: object) -> WanVaceSpec:
    return WanVaceSpec.model_validate({"name": name, "kind": "wan_vace", "model": "embedded", **more})


def test_a_lora_brings_its_sheet_and_is_compared_with_the_model_without(tmp_path):
    (tmp_path / "lora").mkdir()
    sheet = Cost((part("generate", seconds=7200.0, process_seconds=7200.0), part("evaluate"), part("train")))
    cost_ledger.write_beside_lora(tmp_path / "lora", sheet)
    suite = Suite("s", (), (wan("base"), wan("aligned", lora=tmp_path / "lora")), (0,), "hand_quality")
    known = post_training(suite)
    assert set(known) == {"aligned"}
    assert known["aligned"].device_hours.value == pytest.approx(7202 / 3600)  # what is spent on looking is no part
    assert known["aligned"].base == "base"
    cost_ledger.write_post_training(tmp_path, known)
    assert read(tmp_path).post_training == known


def test_sheets_of_two_loras_in_one_folder_are_told_apart(tmp_path):
    for name, seconds in (("a", 3600.0), ("b", 7200.0)):
        sheet = Cost((part(seconds=seconds, process_seconds=seconds),))
        cost_ledger.write_beside_lora(tmp_path / f"{name}.safetensors", sheet)
    hours = {
        name: PostTraining.measured(cost_ledger.beside_lora(tmp_path / f"{name}.safetensors"), None).device_hours.value
        for name in "ab"
    }
    assert hours == {"a": 1.0, "b": 2.0}
    assert cost_ledger.beside_lora(tmp_path / "c.safetensors") is None


def test_hours_that_a_suite_tells():
    told = {"device_hours": 12.5, "base": "base"}
    suite = Suite("s", (), (wan("base"), wan("aligned", post_training=told)), (0,), "hand_quality")
    assert post_training(suite)["aligned"] == PostTraining(
        Amount(12.5), Amount(reason="not measured"), "as the suite says", "base"
    )
    wrong = Suite("s", (), (wan("aligned", post_training={"device_hours": 1.0, "base": "bsae"}),), (0,), "hand_quality")
    with pytest.raises(UserError, match="bsae"):
        post_training(wrong)
