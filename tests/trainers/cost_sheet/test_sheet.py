"""A sheet kept and read back, its tables by hand, and names that are text wherever they are shown."""

import json
from dataclasses import replace

import pytest

from ipa_bench.cost import Amount
from ipa_bench.errors import UserError
from trainers.cost_sheet import pages as write
from trainers.cost_sheet import tables as view
from trainers.cost_sheet.plan import Cell, Clip
from trainers.cost_sheet.sheet import Estimate, Result, Sheet, load, save

CLIP = Clip(480, 832, 17)
NASTY = '<script>alert("1")</script>|`*\x1b[31m'


def cell(work="ipa-cached", model="m", **values):
    trained = {} if work == "generate" else {"rank": 128, "layers": "qkv"}
    return Cell(model, True, work, CLIP, 1, "bf16", **{**trained, **values})


def measured(work="ipa-cached", seconds=(3.0, 1.0, 2.0, 9.0, 2.0), held=10**9, peak=4e9, losses=(0.7, 0.5), **values):
    return Result(
        cell(work, **values), "measured", seconds=seconds, device_allocated=Amount(peak), device_reserved=Amount(peak),
        host=Amount(1e9), energy=Amount(50.0), held=held, flops=3 * 10**12, useful=2 * 10**12, tokens=100,
        peak=Amount(4e12), losses=losses, device="GPU", versions={"torch": "2"},
    )  # fmt: skip


def sheet(*results, estimates=()):
    return Sheet({result.cell.key: result for result in results}, tuple(estimates))


def one(table):
    (row,) = table.rows
    return dict(zip(table.head, row, strict=True))


def test_a_sheet_is_read_as_it_was_written(tmp_path):
    lacking = Result(cell("published"), "out of memory", "while training: CUDA out of memory", flops=1, tokens=2)
    guess = Estimate(cell("sft"), Amount(1.0), Amount(reason="no clip is made"), Amount(2.0), ("a",), Amount(0.1), 2.0)
    first = sheet(measured(), lacking, estimates=[guess])
    save(first, tmp_path)
    assert load(tmp_path) == first
    assert load(tmp_path / "elsewhere") == Sheet()


def test_what_is_no_sheet_is_refused(tmp_path):
    for content in ("{", '{"results": 3}', '{"schema_version": 99}'):
        (tmp_path / "cost.json").write_text(content)
        with pytest.raises(UserError, match=r"cost\.json"):
            load(tmp_path)


def test_a_result_has_times_or_a_reason():
    with pytest.raises(ValueError, match="measured"):
        Result(cell(), "measured")
    with pytest.raises(ValueError, match="measured"):
        Result(cell(), "out of memory")
    with pytest.raises(ValueError, match="measured"):
        Result(cell(), "failed", "why", seconds=(1.0,))


def test_what_failed_is_tried_again_and_what_did_not_fit_is_not():
    kept = sheet(measured(), Result(cell("sft"), "out of memory", "why"), Result(cell("dpo"), "failed", "why"))
    assert [kept.done(cell(work)) for work in ("ipa-cached", "sft", "dpo", "published")] == [True, True, False, False]


def test_the_row_of_a_training_step_by_hand():
    """Median 2 s: 0.5 clips a second; 2 TFLOP in 2 s are a quarter of 4 TFLOP/s; 1000 at 1.80 an hour are 1.00."""
    row = one(view.training([measured()], 1.8))
    assert row["s/step"] == "2.00 [1.00, 9.00]"
    assert row["clips/s"] == "0.500"
    assert (row["peak GB"], row["weights GB"], row["MFU"], row["J/step"]) == ("4.00", "1.00", "25.0 %", "50.0")
    assert row["price of 1000 steps"] == "1.00"
    assert "price of 1000 steps" not in view.training([measured()], None).head


def test_the_row_of_generating_by_hand():
    """50 steps of 2 s and 4 s of decoding: 104 s for 17 frames, 1.0625 s of video."""
    result = Result(
        cell("generate", steps=50, guidance=5.0), "measured", seconds=(2.0,) * 5, decode=(4.0,) * 5,
        energy=Amount(10.0), decode_energy=Amount(20.0), host=Amount(5e9), useful=1, peak=Amount(1e12),
    )  # fmt: skip
    row = one(view.generating([result], 3.6))
    assert row["s/clip"] == "104.0"
    assert row["frames/s"] == "0.163"
    assert row["x real time"] == "0.0102"
    assert (row["peak GB"], row["J/clip"], row["price of a clip"]) == ("5.00", "520", "0.104")


def test_ours_against_the_published_by_hand():
    published = measured("published", (4.0,) * 5, 2 * 10**9, 5e9, losses=(0.7, 0.500001))
    row = one(view.against_published([measured(), published]))
    assert (row["time"], row["weights"], row["peak"]) == ("0.50", "0.50", "0.80")
    assert float(row["largest loss difference"]) == pytest.approx(2e-6, rel=0.1)
    # another shape, dtype or batch is no pair
    assert view.against_published([measured(), measured("published", checkpointing=True)]).rows == ()


def test_what_an_option_pays_by_hand():
    compiled = measured(seconds=(1.0,) * 5, peak=3e9, losses=(0.7, 0.5), compile=True)
    both = measured(seconds=(0.5,) * 5, peak=1e9, compile=True, checkpointing="attention")
    table = view.paying([measured(), compiled, both])
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert [(row["option"], row["time"], row["peak"]) for row in rows] == [
        ("compile", "0.50", "0.75"),
        ("checkpointing attention", "0.50", "0.33"),  # beside what is compiled too
    ]
    assert "compiled" in rows[1]["other options"]
    disturbed = replace(compiled, crowded=Amount(0.5))
    assert one(view.paying([measured(), disturbed]))["time"] == view.NOTHING


def test_losses_of_different_lengths_are_not_compared():
    assert view.loss_difference(measured(), measured("published", losses=(0.7,))) is None
    assert view.loss_difference(measured(), measured("published", losses=(0.7, 0.25))) == 0.5


def test_nothing_unknown_is_a_number():
    bare = Result(cell(), "measured", seconds=(1.0,) * 5)
    row = one(view.training([bare], None))
    assert [row[name] for name in ("peak GB", "weights GB", "MFU", "J/step")] == ["–"] * 4


def test_estimates_say_so_everywhere(tmp_path):
    guess = Estimate(
        cell("ipa-cached", model="other"), Amount(1.0), Amount(reason="no clip is made"), Amount(2e9), ("a",),
        Amount(0.1), 2.0,
    )  # fmt: skip
    found = sheet(measured(), estimates=[guess])
    head = view.estimates([guess], None).head
    assert [name for name in head if name.startswith(("s/", "peak"))] == [
        "s/step, estimate", "s/clip, estimate", "peak GB, estimate",
    ]  # fmt: skip
    write.write_all(found, tmp_path)
    for name in ("cost.md", "cost.html", "training.svg"):
        assert "stimate" in (tmp_path / name).read_text(), name
    assert json.loads((tmp_path / "cost.json").read_text())["estimates"][0]["seconds"] == {"value": 1.0, "reason": None}


def test_names_are_text_in_every_format(tmp_path):
    lacking = Result(cell("sft", model=NASTY), "failed", f"while training: {NASTY}", device=NASTY)
    write.write_all(sheet(measured(model=NASTY), lacking), tmp_path, price=1.0)
    page, text = (tmp_path / "cost.html").read_text(), (tmp_path / "cost.md").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + text
    assert "<script" not in text
    table = text[text.index("## Training") :].split("\n\n")[2].splitlines()
    assert {line.replace("\\|", "").count("|") for line in table} == {14}  # the bar in the name made no column
    assert "<script" not in (tmp_path / "training.svg").read_text()


def test_machines_that_are_mixed_are_named():
    from dataclasses import replace

    other = replace(measured("sft"), device="another GPU")
    (warning,) = view.warnings(sheet(measured(), other))
    assert "2 machines" in warning
    assert view.warnings(sheet(measured())) == ()


def test_wall_time_that_others_disturbed_is_marked_and_processor_time_stands_beside_it():
    waited, quiet = Amount(0.7), Amount(0.02)
    busy = replace(measured(), crowded=waited, cpu=(1.5, 1.0, 2.0))
    (table, *_) = view.tables(sheet(busy, replace(measured("sft"), crowded=quiet)))
    times = {row[3]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    marked, plain = (times[view.ABOUT[work]] for work in ("ipa-cached", "sft"))
    assert marked["s/step"].endswith("] busy")
    assert marked["CPU s/step"] == "1.50"
    assert plain["s/step"].endswith("]")
    assert plain["CPU s/step"] == view.NOTHING
    made = Result(
        cell("generate", steps=50, guidance=5.0), "measured", seconds=(2.0,) * 5, decode=(4.0,) * 5,
        cpu=(1.0, 3.0, 1.0), decode_cpu=(2.5,) * 5,
    )  # fmt: skip
    assert made.clip_cpu == 50 * 1.0 / made.cell.batch + 2.5
    assert not made.busy
