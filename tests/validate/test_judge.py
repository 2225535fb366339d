"""What ``validate`` concludes from losses worked out beforehand, and the whole of it on a real clip."""

import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from ipa_bench.models.damage import DAMAGES, HARMLESS, UNSEEN
from ipa_bench.validate import HARMLESS_VARIANTS, Validation, judge
from ipa_bench.validate.ladder import BELOW_SIGHT, CLEAN, IN_SIGHT, VARIANTS, Losses
from ipa_bench.validate.report import EVERY, WIDE, as_dict, blind, markdown, render_validation, summary, untested
from tests.validate import few

METRIC = "hand_quality@4"
SIGHTLESS = {d.name for d in (*HARMLESS, *UNSEEN)}
TIMED = tuple(d.name for d in DAMAGES if d.kind == "temporal")
TEMPORAL = {d.name for d in DAMAGES if d.kind == "temporal"}


def table(damage_loss=0.5, noise=0.01, windows=20, still=0, seed=0):
    """One clip: harmless versions scatter by ``noise``, damage costs ``damage_loss``."""
    rng = np.random.default_rng(seed)
    loss = {}
    for variant in VARIANTS:
        base = 0.0 if variant == CLEAN or variant in HARMLESS_VARIANTS else damage_loss
        loss[METRIC, variant] = base + rng.normal(0, noise, windows) * (variant != CLEAN)
    return Losses(loss, np.arange(windows) < still)


def test_plain_damage_is_called_worse_and_noise_is_not():
    validation = judge({"clip": table()}, [METRIC], {})
    names = [d.name for d in DAMAGES]
    assert validation.share(METRIC, names, ("mild", "medium", "strong")) == 1.0
    assert validation.share(METRIC, ["reencode", "reencode_too"], ("mild", "medium", "strong")) <= 0.05
    assert 0.015 < validation.clips[0].floors[METRIC] < 0.04


def test_damage_inside_the_noise_is_not_called_worse():
    validation = judge({"clip": table(damage_loss=0.001)}, [METRIC], {})
    assert validation.share(METRIC, ["blur"], ("strong",)) < 0.2
    assert "blur" in blind(validation, METRIC)


def test_a_harmless_version_is_tested_against_a_floor_made_without_it():
    entry = table(noise=0.001)
    entry.loss[METRIC, ("reencode", "mild")][:] = 5.0  # one version is far off: the others' floor must not know
    validation = judge({"clip": entry}, [METRIC], {})
    assert validation.share(METRIC, ["reencode"], ("mild",)) == 1.0
    assert validation.share(METRIC, ["reencode"], ("strong",)) == 0.0


def test_temporal_damage_is_not_tested_where_the_hand_is_still():
    validation = judge({"clip": table(still=15)}, [METRIC], {})
    counts = {c.damage: c.windows for c in validation.cells if c.strength == "strong"}
    assert all(counts[d] == 5 for d in TEMPORAL)
    assert counts["blur"] == 20
    assert "15 of them still" in summary(validation)[0]


def test_clips_of_one_name_stay_apart():
    from pathlib import Path

    from ipa_bench.validate.judge import _names

    assert list(_names([Path("a/x.mp4"), Path("b/x.mp4"), Path("b/y.mp4")]).values()) == ["a/x.mp4", "b/x.mp4", "y.mp4"]


def test_windows_without_a_value_are_counted_apart():
    entry = table()
    entry.loss[METRIC, ("blur", "mild")][:4] = np.nan
    (cell,) = [c for c in judge({"c": entry}, [METRIC], {}).cells if (c.damage, c.strength) == ("blur", "mild")]
    assert (cell.windows, cell.unscored) == (16, 4)


def test_strengths_are_ordered_without_a_floor():
    entry = table()
    for strength, level in (("mild", 0.1), ("medium", 0.2), ("strong", 0.3)):
        entry.loss[METRIC, ("blur", strength)][:] = level
    (ordering,) = [o for o in judge({"c": entry}, [METRIC], {}).orderings if o.damage == "blur"]
    assert (ordering.ordered, ordering.pairs) == (40, 40)


def test_nothing_tested_is_unknown_not_zero():
    validation = judge({"clip": table(still=20)}, [METRIC], {})
    assert validation.share(METRIC, ["lag"], ("strong",)) is None
    assert untested(validation) == {", ".join(TIMED): [METRIC]}
    assert not any(damage in blind(validation, METRIC) for damage in TIMED)
    page = markdown(validation)
    assert page.index("## Not seen") < page.index("## Not tested") < page.index(f"- {', '.join(TIMED)}: `{METRIC}`")
    assert "## Not tested" not in markdown(judge({"clip": table()}, [METRIC], {}))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_is_whole_at_any_width(width):
    entry = table()
    names = ("hand.keypoint_error@1", "lpips.embedded@1", METRIC)
    for name in names[:2]:
        entry.loss.update(
            {(name, variant): values for (metric, variant), values in entry.loss.items() if metric == METRIC}
        )
    out = io.StringIO()
    Console(file=out, width=width).print(render_validation(judge({"clip": entry}, names, {})))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    # every damage is named in whole words, and every metric has a number below each
    heads = " ".join(lines)
    assert all(word in heads for damage in EVERY for word in damage.split("_"))
    rows = [line.split()[1:] for line in lines if line.startswith("hand.keypoint_error ")]
    assert sum(map(len, rows)) == len(EVERY) + 1
    assert all((cell.count("/") == 2) == (width >= WIDE) for row in rows for cell in row[: len(EVERY)][:-1])


def test_unseen_changes_stand_above_seen_ones_or_are_named():
    entry = table()
    whole = {(METRIC, v): 0.01 for v in BELOW_SIGHT} | {(METRIC, v): 0.2 for v in IN_SIGHT}
    (sight,) = judge({"c": replace(entry, whole=whole)}, [METRIC], {}).sights
    assert (sight.right, sight.pairs) == (18 * 4, 18 * 4)
    whole[METRIC, ("hue", "strong")] = 0.3
    validation = judge({"c": replace(entry, whole=whole)}, [METRIC], {})
    (sight,) = validation.sights
    assert (sight.right, sight.unseen) == (17 * 4, ("hue", "strong", 0.3))
    assert "68 of 72 pairs of an unseen and a seen change in order" in " ".join(summary(validation))
    assert f"| `{METRIC}` |" in markdown(validation).partition("## What nobody sees")[2].partition("##")[0]
    # what does not change the hand's pixels on a clip is not seen there
    (sight,) = judge({"c": replace(entry, whole=whole, in_sight=IN_SIGHT[:2])}, [METRIC], {}).sights
    assert sight.pairs == 18 * 2


def test_reports_hold_every_metric_and_are_strict_json():
    validation = judge({"clip": table()}, [METRIC], {"other.mp4": "shows a hand in fewer than 24 frames"})
    assert isinstance(validation, Validation)
    text = markdown(validation)
    assert f"`{METRIC}`" in text
    assert "other.mp4 was left out" in text
    json.dumps(as_dict(validation), allow_nan=False)


@pytest.mark.parametrize(
    "call", ["tests.validate.few:main", pytest.param("ipa_bench.cli:main", marks=pytest.mark.slow)]
)
def test_a_real_clip_from_end_to_end(server, footage, cache_folder, tmp_path, call):
    arguments = ["validate", footage.longer / "anna__wide.mp4", "-o", "out"]
    environment = {**os.environ, "IPA_BENCH_CACHE": str(cache_folder), "COLUMNS": "120"}
    process = server.start(arguments, tmp_path, environment, tmp_path / "said", call=call)
    assert process.wait() == 0, process.errors
    found = json.loads((tmp_path / "out" / "validation.json").read_text())
    (clip,) = found["clips"]
    assert clip["windows"] >= 1
    cells = [c for c in found["cells"] if c["metric"] == METRIC and c["damage"] in ("finger_melt", "flicker")]
    assert sum(c["worse"] for c in cells) >= 5
    tested = {c["damage"] for c in found["cells"]}
    assert tested == ({*EVERY, *SIGHTLESS} if call.startswith("ipa_bench") else few.KEPT - {"clean"})
    assert (tmp_path / "out" / "validation.md").read_text().startswith("# What the metrics see")
    assert "hand_quality@4 orders damage correctly" in process.out
    assert pytest.approx(1.0) == next(
        c["worse"] / c["windows"] for c in found["cells"]
        if (c["metric"], c["damage"], c["strength"]) == ("hand.psnr@1", "finger_melt", "strong")
    )  # fmt: skip
