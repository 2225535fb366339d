"""The page in a real browser, opened from disk as a reader opens it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.report import clips, html
from ipa_bench.report.view import ReportView
from ipa_bench.store import CaseEntry, Details, ModelEntry, UnitRecord
from ipa_bench.types import UInt8
from tests.browser import Tab, tab
from tests.report import build
from tests.report.conftest import MISSING, REASON
from tests.report.test_html import HOSTILE

DRIFT = """async (seconds) => {
  const videos = [...document.querySelectorAll("video")].filter((video) => video.hasAttribute("src"));
  const begin = performance.now();
  let worst = 0, last = [];
  while (performance.now() - begin < 1000 * seconds) {
    await new Promise(requestAnimationFrame);
    last = videos.map((video) => video.currentTime);
    if (performance.now() - begin > 700) worst = Math.max(worst, Math.max(...last) - Math.min(...last));
  }
  return { worst, last, paused: videos.map((video) => video.paused) };
}"""
INK = """(key) => {
  const canvas = document.querySelector(`[data-panel=${key}] canvas`);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return pixels.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""
SCRUB = """(frame) => {
  const slider = document.getElementById("scrub");
  slider.value = frame;
  slider.dispatchEvent(new Event("input"));
}"""
READY = "(key) => document.getElementById('viewer').dataset.ready === key"


@pytest.fixture
def opened(browser: Any, written: tuple[ReportView, Path]) -> Iterator[Tab]:
    """The page; on the way out, that it had no troubles and asked for nothing but its own files."""
    with tab(browser) as found:
        open_page(found, written[1])
        yield found
        assert found.trouble == []
        folder = written[1].parent.as_uri()
        assert [url for url in found.requests if not url.startswith((folder, "data:,"))] == []


def open_page(found: Tab, page: Path, clip: str = "", ready: str = "0.0.0.1") -> None:
    found.page.goto(page.as_uri() + clip)
    found.page.wait_for_function(READY, arg=ready)
    settle(found)


def settle(found: Tab) -> None:
    """Until every video that has a source shows the frame it was sent to."""
    found.page.wait_for_function(
        "() => [...document.querySelectorAll('video[src]')].every((v) => v.readyState >= 2 && !v.seeking)"
    )
    found.page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 120))")


def column(found: Tab, table: str, number: int) -> list[str]:
    rows = found.page.locator(f"{table} tbody tr:visible")
    return [row.locator("> *").nth(number).get_attribute("data-sort") for row in rows.all()]


def test_it_opens_sorted_by_the_primary_metric(opened: Tab, written: tuple[ReportView, Path]) -> None:
    assert column(opened, "#board", 1) == [row.model for row in written[0].leaderboard.rows]
    sorted_by = opened.page.locator("#board th[aria-sort]")
    assert sorted_by.count() == 1
    assert sorted_by.get_attribute("aria-sort") == "ascending"
    assert "keypoint" in sorted_by.inner_text()


def test_a_click_on_a_head_sorts_by_number_and_again_turns_it(opened: Tab) -> None:
    opened.page.check("#all-metrics")
    heads = opened.page.locator("#board thead th")
    for number in range(2, heads.count()):
        head = heads.nth(number)
        for direction in (None, None):
            del direction
            head.locator("button").click()
            values = [float(text) for text in column(opened, "#board", number) if text]
            assert values == sorted(values, reverse=head.get_attribute("aria-sort") == "descending")
            assert opened.page.locator("#board th[aria-sort]").count() == 1


def test_missing_values_stay_last_whichever_way(opened: Tab) -> None:
    opened.page.evaluate("document.querySelector('#board tbody td:nth-child(4)').dataset.sort = ''")
    button = opened.page.locator("#board thead th").nth(3).locator("button")
    for _ in range(2):
        button.click()
        keys = column(opened, "#board", 3)
        assert keys[-1] == ""
        assert "" not in keys[:-1]


def test_all_metrics_show_when_asked_for(opened: Tab) -> None:
    visible = opened.page.locator("#board thead th:visible")
    assert visible.count() == 2 + 6
    opened.page.check("#all-metrics")
    assert visible.count() == 2 + len(build.METRICS)


def test_pairs_are_shown_one_at_a_time(opened: Tab) -> None:
    rows = opened.page.locator("#pairs tbody tr:visible")
    assert rows.count() == len(build.METRICS)
    before = rows.first.inner_text()
    opened.page.select_option("#pair", "1")
    assert rows.count() == len(build.METRICS)
    assert rows.first.inner_text() != before


def test_three_videos_play_in_step(opened: Tab) -> None:
    opened.page.uncheck("#loop")
    opened.page.click("#play")
    found = opened.page.evaluate(DRIFT, 1.0)
    assert found["paused"] == [False, False, False]
    assert found["last"][0] > 0.5
    assert found["worst"] < 1 / 25


def test_they_stay_in_step_at_another_speed_and_after_a_stall(opened: Tab) -> None:
    opened.page.uncheck("#loop")
    opened.page.select_option("#speed", "0.5")
    opened.page.click("#play")
    opened.page.wait_for_timeout(300)
    opened.page.evaluate("document.querySelector('[data-panel=b] video').currentTime += 0.15")
    found = opened.page.evaluate(DRIFT, 1.4)
    assert found["paused"] == [False, False, False]
    assert abs(found["last"][0] - found["last"][2]) < 1 / 25


def test_a_shorter_clip_waits_on_its_last_frame_and_all_loop_together(opened: Tab) -> None:
    opened.page.uncheck("#loop")
    opened.page.click("#play")
    opened.page.wait_for_function("document.getElementById('play').getAttribute('aria-label') === 'Play'")
    settle(opened)
    times = opened.page.evaluate("[...document.querySelectorAll('video')].map((v) => v.currentTime)")
    assert times[0] == pytest.approx(39.5 / 25, abs=0.001)
    assert times[2] == pytest.approx(19.5 / 16, abs=0.001)
    opened.page.check("#loop")
    opened.page.click("#play")
    opened.page.wait_for_timeout(2300)  # past the end
    found = opened.page.evaluate(DRIFT, 0.8)
    assert found["worst"] < 1 / 25 or found["last"][0] > 1.25


def test_keys_step_play_and_jump(opened: Tab) -> None:
    def frame() -> int:
        return int(opened.page.input_value("#scrub"))

    opened.page.locator("#viewer").focus()
    for key, expected in (
        ("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("End", 39), ("ArrowRight", 39), ("Home", 0),
        ("ArrowLeft", 0),
    ):  # fmt: skip
        opened.page.keyboard.press(key)
        assert frame() == expected
    opened.page.keyboard.press("Space")
    opened.page.wait_for_function("document.querySelector('[data-panel=a] video').currentTime > 0.2")
    opened.page.keyboard.press("Space")
    assert opened.page.get_attribute("#play", "aria-label") == "Play"
    stopped = frame()
    opened.page.wait_for_timeout(150)
    assert frame() == stopped > 0


def test_keys_leave_other_controls_alone(opened: Tab) -> None:
    opened.page.locator("#pick-case").focus()
    opened.page.keyboard.press("ArrowDown")
    opened.page.wait_for_function(READY, arg="1.0.0.1")
    assert opened.page.input_value("#scrub") == "0"
    opened.page.locator("#board thead button").first.focus()
    opened.page.keyboard.press("Space")
    assert opened.page.locator("#board thead th").first.get_attribute("aria-sort") == "ascending"
    assert opened.page.get_attribute("#play", "aria-label") == "Play"


def test_overlays_draw_the_hands_where_they_are(opened: Tab, written: tuple[ReportView, Path]) -> None:
    page = opened.page
    for _ in range(12):
        page.click("#forward")
    settle(opened)
    details = written[0].details(("wave_0", 0, "tuned"))
    assert details is not None
    assert details.generated_found[12].all()
    for slot, colour in ((0, (255, 176, 0)), (1, (63, 208, 255))):
        x, y = details.generated_landmarks[12, slot, 8].tolist()
        pixel = page.evaluate(
            """([x, y]) => {
              const canvas = document.querySelector("[data-panel=a] canvas");
              const at = [x * canvas.width, y * canvas.height].map(Math.floor);
              return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
            }""",
            [x, y],
        )
        assert pixel == pytest.approx([*colour, 255], abs=12)


def test_overlays_can_be_switched(opened: Tab) -> None:
    page = opened.page
    assert min(page.evaluate(INK, key) for key in ("driving", "a", "b")) > 500
    alone = page.evaluate(INK, "a")
    page.check("#show-driving")
    assert page.evaluate(INK, "a") > alone
    page.uncheck("#show-hands")
    assert page.evaluate(INK, "driving") == 0
    assert page.evaluate(INK, "b") > 0
    page.uncheck("#show-driving")
    assert [page.evaluate(INK, key) for key in ("driving", "a", "b")] == [0, 0, 0]


def test_strips_show_values_and_seek(opened: Tab, written: tuple[ReportView, Path]) -> None:
    page = opened.page
    assert page.locator(".strip").count() == 3
    box = page.locator(".strip .track").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 20.5 / 40, box["y"] + 20)
    assert page.input_value("#scrub") == "20"
    details = written[0].details(("wave_0", 0, "tuned"))
    assert details is not None
    shown = page.locator(".strip .readout.a").first.inner_text()
    assert float(shown.removeprefix("A ")) == pytest.approx(
        float(details.series["hand.keypoint_error@1"][20]), rel=1e-3
    )
    page.click("#strip-choice summary")
    page.locator("#strip-choice input").first.uncheck()
    assert page.locator(".strip").count() == 2


def test_scores_of_the_clip_have_reasons(browser: Any, written: tuple[ReportView, Path]) -> None:
    models = [row.model for row in written[0].leaderboard.rows]
    case = [entry.id for entry in written[0].header.cases].index(MISSING[0])
    with tab(browser) as found:
        open_page(found, written[1], f"#clip={case}.0.0.{models.index('base')}", f"{case}.0.0.{models.index('base')}")
        panel = found.page.locator("[data-panel=b]")
        assert "No video: there is no video" in panel.inner_text()
        assert "not scored" in panel.inner_text()
        rows = found.page.locator("#clip-scores tr")
        assert rows.count() == len(build.METRICS)
        assert f"B: {REASON}" in rows.first.inner_text()
        assert "tried twice" in found.page.inner_text("#clip-notes")
        assert found.trouble == []


def test_the_gallery_opens_the_clip_at_that_frame(opened: Tab, written: tuple[ReportView, Path]) -> None:
    view, _ = written
    moment = clips.worst_moments(view)[3]
    card = opened.page.locator("#gallery a").nth(3)
    assert card.locator("img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 482
    card.click()
    models = [row.model for row in view.leaderboard.rows]
    a = models.index(moment.unit[2])
    case = [entry.id for entry in view.header.cases].index(moment.unit[0])
    opened.page.wait_for_function(READY, arg=f"{case}.0.{a}.{1 if a == 0 else 0}")
    settle(opened)
    assert opened.page.evaluate("document.querySelector('[data-panel=a] video').currentTime") == pytest.approx(
        moment.time, abs=1 / 25
    )
    assert opened.page.input_value("#pick-case") == str(case)
    assert opened.page.locator("#viewer").evaluate("(box) => box.getBoundingClientRect().top < innerHeight")
    opened.page.select_option("#gallery-model", "0")
    assert opened.page.locator("#gallery li:visible").count() == 3


def test_cases_can_be_ordered_by_how_bad_they_are(opened: Tab, written: tuple[ReportView, Path]) -> None:
    view, _ = written
    opened.page.select_option("#pick-order", "worst")
    shown = opened.page.locator("#pick-case option").all_inner_texts()
    best = view.leaderboard.rows[0].model

    def error(case: str) -> float:
        scores = view.records[case, 0, best].scores
        return next(s.value for s in scores if s.metric == view.header.primary and s.value is not None)

    assert shown == sorted((case.id for case in view.header.cases), key=error, reverse=True)
    opened.page.click("#next-case")
    second = [case.id for case in view.header.cases].index(shown[1])
    opened.page.wait_for_function(READY, arg=f"{second}.0.0.1")


def test_hostile_names_are_only_text(browser: Any, tmp_path: Path) -> None:
    view = build.make_run(tmp_path, names=HOSTILE, identities=2, models=dict(list(build.MODELS.items())[:2]))
    evil = tmp_path / "videos" / "<img src=x onerror=alert(1)>.mp4"
    unit = (HOSTILE["wave_0"], 0, HOSTILE["base"])
    record = view.records[unit]
    assert record.video is not None
    Path(record.video).rename(evil)
    noted = replace(record, video=str(evil), notes=("<script>alert(3)</script>",))
    view = build.with_records(view, {**view.records, unit: noted})
    page = html.write(view, tmp_path, jobs=1)
    with tab(browser) as found:
        open_page(found, page)
        assert found.page.title() == f"{HOSTILE['run']} · ipa-bench"
        assert found.page.locator("h1").inner_text() == HOSTILE["run"]
        assert HOSTILE["wave_0"] in found.page.locator("#pick-case option").all_inner_texts()
        assert {"<script>alert(3)</script>"} <= {found.page.inner_text("#clip-notes")[3:]}
        assert found.page.locator("img:not(#gallery img), body script:not(:nth-last-of-type(-n+2))").count() == 0
        found.page.locator("#gallery a").first.click()
        found.page.wait_for_timeout(300)
        assert found.trouble == []
        assert not [url for url in found.requests if url.endswith("/x") or not url.startswith(("file:", "data:,"))]


def test_a_script_that_gets_in_all_the_same_does_not_run(browser: Any, written: tuple[ReportView, Path]) -> None:
    with tab(browser) as found:
        open_page(found, written[1])
        found.page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"alert(1)\">')"
        )
        found.page.wait_for_timeout(200)
        assert found.trouble
        assert not [text for text in found.trouble if text.startswith("dialog")]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [420, 1400])
def test_nothing_sticks_out_at_any_width(
    browser: Any, written: tuple[ReportView, Path], width: int, dark: bool
) -> None:
    with tab(browser, width=width, dark=dark) as found:
        open_page(found, written[1])
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        paper = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in paper[4:-1].split(",")) < 200) == dark


@pytest.mark.parametrize("kind", ["one model", "no details"])
def test_a_run_that_lacks_something_plays_what_there_is(browser: Any, tmp_path: Path, kind: str) -> None:
    models = dict(list(build.MODELS.items())[: 1 if kind == "one model" else 2])
    view = build.make_run(tmp_path, identities=1, models=models)
    if kind == "no details":
        view = replace(view, details=lambda unit: None)
    page = html.write(view, tmp_path, jobs=1)
    with tab(browser) as found:
        open_page(found, page, ready="0.0.0.null" if kind == "one model" else "0.0.0.1")
        assert found.page.locator(".panel:visible").count() == (2 if kind == "one model" else 3)
        assert found.page.locator(".strip").count() == (0 if kind == "no details" else 3)
        assert found.page.is_disabled("#show-hands") == (kind == "no details")
        found.page.click("#play")
        found.page.wait_for_function("document.querySelector('[data-panel=a] video').currentTime > 0.2")
        assert found.trouble == []


def barcode(index: int, size: tuple[int, int]) -> UInt8:
    """A frame that shows its own number: eight bars, white for 1, the lowest bit left."""
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    for bit in range(8):
        if index >> bit & 1:
            frame[:, bit * size[0] // 8 : (bit + 1) * size[0] // 8] = 255
    return frame


def shown_number(found: Tab, key: str) -> int:
    picture = Image.open(io.BytesIO(found.page.locator(f"[data-panel={key}] .stage").screenshot())).convert("L")
    row = np.asarray(picture)[picture.height // 2]
    return sum(int(row[(2 * bit + 1) * len(row) // 16] > 127) << bit for bit in range(8))


def numbered_run(folder: Path, sizes: dict[str, tuple[float, int, tuple[int, int]]]) -> ReportView:
    """A run whose videos show their frame numbers; ``sizes``: driving and models -> fps, frames, (width, height)."""
    for name, (fps, count, size) in sizes.items():
        video.encode((barcode(index, size) for index in range(count)), folder / f"{name}.mp4", fps)
    models = [name for name in sizes if name != "driving"]
    view = build.make_run(folder, models=dict.fromkeys(models, (25.0, 1.0, 0.05)), identities=2, videos=False)
    case = CaseEntry("numbers", "one", "test", "driving.mp4")
    header = replace(view.header, cases=(case,), models=tuple(ModelEntry(name, "folder", "") for name in models))
    records = {}
    for name in models:
        unit = ("numbers", 0, name)
        look = build.Look(25.0, 1.0, 0.05, len(name))
        scores = build.scores_of(unit, look, np.random.default_rng(0))
        records[unit] = UnitRecord(*unit, f"{name}.mp4", None, None, (), scores)
    return build.with_records(replace(view, header=header), records)


def test_every_panel_shows_the_frame_of_that_moment(browser: Any, tmp_path: Path) -> None:
    sizes = {"driving": (25.0, 60, (320, 240)), "a": (25.0, 60, (240, 320)), "b": (12.5, 20, (640, 360))}
    page = html.write(numbered_run(tmp_path, sizes), tmp_path, jobs=1)
    with tab(browser) as found:
        open_page(found, page)
        for frame in (0, 1, 2, 17, 30, 31, 45, 59, 44, 7, 6):
            found.page.evaluate(SCRUB, frame)
            settle(found)
            # the third clip is half as fast and ends after frame 19
            expected = (frame, frame, min(frame // 2, 19))
            assert tuple(shown_number(found, key) for key in ("driving", "a", "b")) == expected
        assert found.trouble == []


def test_real_footage_plays_in_step(browser: Any, tmp_path: Path, media: Path) -> None:
    """Clips of different length, size and rate, as they come from cameras."""
    hand, person = media / "hand_640x360.mp4", media / "gesture_1280x720.mp4"
    slow = tmp_path / "slow.mp4"
    halved = (frame.image for index, frame in enumerate(video.read_frames(hand)) if index % 2 == 0)
    video.encode(halved, slow, 12.5, preset="veryfast")
    view = build.make_run(tmp_path, models={"a": (25.0, 1.0, 0.05), "b": (25.0, 1.0, 0.05)}, identities=1, videos=False)
    (case,) = view.header.cases
    records = {
        unit: replace(record, video=str(person if unit[2] == "a" else slow)) for unit, record in view.records.items()
    }
    view = replace(view, header=replace(view.header, cases=(replace(case, driving=str(hand), ground_truth=None),)))
    page = html.write(build.with_records(view, records), tmp_path, jobs=2)
    with tab(browser) as found:
        open_page(found, page)
        found.page.click("#play")
        drift = found.page.evaluate(DRIFT, 3.0)
        assert drift["paused"] == [False, False, False]
        assert drift["last"][0] > 1.5
        assert drift["worst"] < 1 / 25
        assert found.trouble == []


def test_details_on_another_time_grid_are_found_by_time(browser: Any, tmp_path: Path) -> None:
    """Per-frame data at half the video's rate: the overlay holds each for two frames."""
    sizes = {"driving": (25.0, 20, (320, 240)), "a": (25.0, 20, (320, 240))}
    view = numbered_run(tmp_path, sizes)
    landmarks = np.zeros((10, 2, 21, 2), np.float32)
    landmarks[:, 0] = (0.05 + 0.09 * np.arange(10))[:, None, None]
    seen = np.tile([True, False], (10, 1))
    details = Details(np.arange(10) / 12.5, 12.5, (320, 240), landmarks, seen, series={})
    page = html.write(replace(view, details=lambda unit: details), tmp_path, jobs=1)
    with tab(browser) as found:
        open_page(found, page, ready="0.0.0.null")
        for frame in (0, 1, 2, 9, 10, 19):
            found.page.evaluate(SCRUB, frame)
            settle(found)
            middle = found.page.evaluate(
                """() => {
                  const canvas = document.querySelector("[data-panel=a] canvas");
                  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                  const there = [];
                  for (let i = 3; i < data.length; i += 4) if (data[i] > 128) there.push(((i - 3) / 4) % width / width);
                  return there.reduce((a, b) => a + b, 0) / there.length;
                }"""
            )
            assert middle == pytest.approx(0.05 + 0.09 * (frame // 2), abs=0.01)
