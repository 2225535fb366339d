from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipa_bench.errors import UserError
from ipa_bench.report import drilldown as clips
from ipa_bench.report import html, write_all
from ipa_bench.report.view import ReportView
from tests.report import build
from tests.report.conftest import MISSING, REASON

ROOT = Path(__file__).parents[2]
HOSTILE = {
    "run": "</title><script>alert(0)</script> {{ 7 * 7 }}",
    "base": "\"'><script>alert(1)</script>",
    "tuned": "</script><!--<script>\u2028",
    "wave_0": "<img src=x onerror=alert(1)>.mp4",
    "wave_1": "../../etc/passwd",
}


class Tags(HTMLParser):
    """Start tags with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data


def data_of(view: ReportView, page: Path, unit: tuple[str, int, str]) -> Any:
    text = (page.parent / "report" / "data" / f"{clips.data_name(unit)}.js").read_text(encoding="utf-8")
    match = re.fullmatch(r'ipaBenchClip\("([0-9a-f]+)",(.*)\);\n', text)
    assert match is not None
    assert match[1] == clips.data_name(unit)
    return json.loads(match[2])


def test_write_all_writes_every_format(tmp_path: Path, numbers: ReportView) -> None:
    paths = write_all(numbers, tmp_path, jobs=1)
    names = ["leaderboard.md", "report.json", "scores.csv", "leaderboard.csv", "report.html"]
    assert [path.name for path in paths] == names
    assert all(path.stat().st_size > 200 for path in paths)


def test_the_page_names_nothing_outside_its_folder(written: tuple[ReportView, Path]) -> None:
    _, page = written
    for tag, attrs in Tags(page.read_text(encoding="utf-8")).tags:
        for name in ("src", "href"):
            target = attrs.get(name) or "#"
            if tag in ("use", "image"):  # inside a plot
                assert target.startswith(("#", "data:"))
            elif not target.startswith(("#", "data:")):
                assert (page.parent / target).is_file() or target in ("scores.csv", "report.json")


def test_the_policy_admits_exactly_the_pages_own_script(written: tuple[ReportView, Path]) -> None:
    found = Tags(written[1].read_text(encoding="utf-8"))
    policy = next(attrs["content"] or "" for _, attrs in found.tags if "http-equiv" in attrs)
    _, script = found.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert "default-src 'none'" in policy


def test_names_make_no_tags_and_no_files(tmp_path: Path) -> None:
    view = build.make_run(tmp_path, names=HOSTILE, identities=2, videos=False)
    page = html.write(view, tmp_path, jobs=1)
    found = Tags(page.read_text(encoding="utf-8"))
    assert len(found.scripts) == 2
    assert not [tag for tag, attrs in found.tags if tag == "img" or any(name.startswith("on") for name in attrs)]
    assert json.loads(found.scripts[0])["models"] == [row.model for row in view.leaderboard.rows]
    names = {path.name for path in (tmp_path / "report" / "data").iterdir()}
    assert names == {f"{clips.data_name(unit)}.js" for unit in view.records}
    assert all(re.fullmatch(r"[0-9a-f]{20}\.js", name) for name in names)
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page.read_text(encoding="utf-8"))[0]


def test_data_for_scripts_cannot_close_them() -> None:
    value = {"</script>": "<!-- \u2028 \u2029 & é"}
    text = clips.to_script(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        clips.to_script([float("nan")])


def test_the_data_of_a_clip_are_its_scores_and_what_was_seen(written: tuple[ReportView, Path]) -> None:
    view, page = written
    unit = ("wave_0", 0, "tuned")
    data, details = data_of(view, page, unit), view.details(unit)
    assert details is not None
    assert data["scores"] == [[s.metric, s.value, s.reason] for s in sorted_scores(view, unit)]
    assert data["frames"]["times"] == pytest.approx(details.times.tolist(), abs=1e-4)
    for frame in (0, 17, 39):
        for slot in (0, 1):
            hand = data["frames"]["generated"][frame][slot]
            if not details.generated_found[frame, slot]:
                assert hand is None
            else:
                exact = details.generated_landmarks[frame, slot].ravel()
                assert np.array(hand) / clips.STEPS == pytest.approx(exact, abs=1e-4)
    series = details.series["hand.keypoint_error@1"]
    assert [value is None for value in data["frames"]["series"]["hand.keypoint_error@1"]] == np.isnan(series).tolist()


def sorted_scores(view: ReportView, unit: tuple[str, int, str]) -> list[Any]:
    order = list(html.page.metric_order(view))
    return sorted(view.records[unit].scores, key=lambda score: order.index(score.metric))


def test_a_missing_video_keeps_its_reasons_and_has_no_frames(written: tuple[ReportView, Path]) -> None:
    data = data_of(*written, MISSING)
    assert {reason for _, _, reason in data["scores"]} == {REASON}
    assert data["notes"] == ["tried twice"]


def test_landmarks_that_are_not_numbers_are_hands_not_found() -> None:
    landmarks = np.full((1, 2, 21, 2), np.nan, np.float32)
    landmarks[0, 1] = 0.5
    (frame,) = clips._hands(landmarks, np.array([[True, True]]))
    assert frame[0] is None
    assert frame[1] == [clips.STEPS // 2] * 42


@pytest.mark.parametrize("kind", ["one model", "one identity", "no details", "no records", "no infos"])
def test_a_run_that_lacks_something_has_a_page_that_says_so(tmp_path: Path, kind: str) -> None:
    models = {"base": build.MODELS["base"]} if kind == "one model" else build.MODELS
    view = build.make_run(tmp_path, models=models, identities=1 if kind == "one identity" else 2, videos=False)
    if kind == "no records":
        view = replace(view, records={}, leaderboard=replace(view.leaderboard, rows=(), comparisons=()))
    if kind == "no infos":
        view = replace(view, infos=(), floors={})
    text = html.write(view, tmp_path, jobs=1).read_text(encoding="utf-8")
    expected = {
        "one model": "One model: nothing to compare",
        "one identity": "One identity: no interval can be given",
        "no details": "No per-frame values were kept",
        "no records": "No model has a record yet",
        "no infos": "The run names no metrics",
    }
    assert expected[kind] in text


def test_a_folder_that_cannot_be_written_is_an_error_to_mend(tmp_path: Path, numbers: ReportView) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(UserError, match="cannot write in"):
        html.write(numbers, tmp_path, jobs=1)


def test_the_same_run_gives_the_same_page(written: tuple[ReportView, Path]) -> None:
    view, page = written
    before = page.read_bytes()
    assert html.write(view, page.parent, jobs=1).read_bytes() == before


def test_a_built_wheel_carries_the_templates(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="building a wheel needs setuptools")
    for name in ("pyproject.toml", "README.md", "LICENSE", "ipa_bench", "trainers"):
        (tmp_path / name).symlink_to(ROOT / name)
    build_wheel = "import setuptools.build_meta as b; print(b.build_wheel('out'))"
    result = subprocess.run(
        [sys.executable, "-c", f"import os; os.makedirs('out'); {build_wheel}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for source in (ROOT / "ipa_bench" / "report" / "templates").iterdir():
        assert f"ipa_bench/report/templates/{source.name}" in names
