"""The page in a real browser, opened from disk as a reader opens it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipa_bench.report import html
from ipa_bench.report.view import ReportView
from ipa_bench.report.worst import worst_moments
from tests.browser import Tab, tab
from tests.report import build
from tests.report.conftest import MISSING, REASON
from tests.report.pages import INK, READY, open_page, settle
from tests.report.test_html import HOSTILE


@pytest.fixture(scope="module")
def shared(browser: Any, written: tuple[ReportView, Path]) -> Iterator[Tab]:
    with tab(browser) as found:
        open_page(found, written[1])
        yield found
        assert found.trouble == []


@pytest.fixture
def board(shared: Tab) -> Tab:
    """A page whose tables several tests sort and filter, with its switches as it opens."""
    shared.page.uncheck("#all-metrics")
    shared.page.select_option("#pair", "0")
    return shared


def column(found: Tab, table: str, number: int) -> list[str]:
    rows = found.page.locator(f"{table} tbody tr:visible")
    return [row.locator("> *").nth(number).get_attribute("data-sort") for row in rows.all()]


def test_it_opens_sorted_by_the_primary_metric(opened: Tab, written: tuple[ReportView, Path]) -> None:
    assert column(opened, "#board", 1) == [row.model for row in written[0].leaderboard.rows]
    sorted_by = opened.page.locator("#board th[aria-sort]")
    assert sorted_by.count() == 1
    assert sorted_by.get_attribute("aria-sort") == "ascending"
    assert "keypoint" in sorted_by.inner_text()


def test_a_click_on_a_head_sorts_by_number_and_again_turns_it(board: Tab) -> None:
    board.page.check("#all-metrics")
    heads = board.page.locator("#board thead th")
    for number in range(2, heads.count()):
        head = heads.nth(number)
        for direction in (None, None):
            del direction
            head.locator("button").click()
            values = [float(text) for text in column(board, "#board", number) if text]
            assert values == sorted(values, reverse=head.get_attribute("aria-sort") == "descending")
            assert board.page.locator("#board th[aria-sort]").count() == 1


def test_missing_values_stay_last_whichever_way(board: Tab) -> None:
    board.page.evaluate("document.querySelector('#board tbody td:nth-child(4)').dataset.sort = ''")
    button = board.page.locator("#board thead th").nth(3).locator("button")
    for _ in range(2):
        button.click()
        keys = column(board, "#board", 3)
        assert keys[-1] == ""
        assert "" not in keys[:-1]


def test_all_metrics_show_when_asked_for(board: Tab) -> None:
    visible = board.page.locator("#board thead th:visible")
    assert visible.count() == 2 + 6
    board.page.check("#all-metrics")
    assert visible.count() == 2 + len(build.METRICS)


def test_pairs_are_shown_one_at_a_time(board: Tab) -> None:
    rows = board.page.locator("#pairs tbody tr:visible")
    assert rows.count() == len(build.METRICS)
    before = rows.first.inner_text()
    board.page.select_option("#pair", "1")
    assert rows.count() == len(build.METRICS)
    assert rows.first.inner_text() != before


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
    track = page.locator(".strip .track").first
    track.click(position={"x": track.bounding_box()["width"] * 20.5 / 40, "y": 20})
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
        assert REASON in panel.inner_text()
        assert "not scored" in panel.inner_text()
        rows = found.page.locator("#clip-scores tr")
        assert rows.count() == len(build.METRICS)
        assert f"B: {REASON}" in rows.first.inner_text()
        assert "tried twice" in found.page.inner_text("#clip-notes")
        assert found.trouble == []


def test_the_gallery_opens_the_clip_at_that_frame(opened: Tab, written: tuple[ReportView, Path]) -> None:
    view, _ = written
    groups = worst_moments(view)
    assert opened.page.locator("#gallery h3").all_inner_texts() == [group.title for group in groups]
    place = [group.title for group in groups].index("A hand is not as it should be")
    moment = [card for card in groups[place].cards if card.first][1].moment
    card = opened.page.locator("#gallery .reason").nth(place).locator("li:visible a").nth(1)
    card.scroll_into_view_if_needed()
    assert card.locator("img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 642
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
    cases = len(view.header.cases)
    for group in range(len(groups)):
        assert opened.page.locator("#gallery .reason").nth(group).locator("li:visible").count() <= cases
    opened.page.select_option("#gallery-model", "0")
    shown = opened.page.locator("#gallery li:visible .name").all_inner_texts()
    assert shown == [models[0]] * sum(card.moment.unit[2] == models[0] for group in groups for card in group.cards)
    opened.page.select_option("#gallery-model", "")
    first = sum(card.first for group in groups for card in group.cards)
    assert opened.page.locator("#gallery li:visible").count() == first


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
    view = build.make_run(tmp_path, names=HOSTILE, identities=1, models=dict(list(build.MODELS.items())[:2]))
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
        found.page.locator("#gallery li:visible a").first.click()
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


def test_nothing_sticks_out_at_any_width(browser: Any, written: tuple[ReportView, Path]) -> None:
    for width, dark in ((420, True), (1400, False)):
        with tab(browser, width=width, dark=dark) as found:
            open_page(found, written[1])
            for dark_now in (dark, not dark):
                found.page.emulate_media(color_scheme="dark" if dark_now else "light")
                assert found.page.evaluate("document.documentElement.scrollWidth") <= width
                paper = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert (sum(int(part) for part in paper[4:-1].split(",")) < 200) == dark_now


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
        found.page.wait_for_function("() => document.querySelector('[data-panel=a] video').currentTime > 0.2")
        assert found.trouble == []


def test_the_camera_follows_a_hand_in_all_panels_alike(opened: Tab) -> None:
    page = opened.page
    transforms = "[...document.querySelectorAll('.frame')].map((frame) => frame.style.transform)"
    assert page.evaluate(transforms) == ["", "", ""]
    page.select_option("#zoom", "1")
    first = page.evaluate(transforms)
    assert len(set(first)) == 1
    assert float(first[0].split(")")[0].removeprefix("scale(")) > 1.5
    page.locator("#viewer").focus()
    page.keyboard.press("End")
    assert page.evaluate(transforms)[0] != first[0]
    # the picture covers its panel on all sides
    gaps = page.evaluate(
        """() => [...document.querySelectorAll(".stage")].map((stage) => {
          const [out, inside] = [stage, stage.querySelector(".frame")].map((box) => box.getBoundingClientRect());
          return Math.max(inside.left - out.left, inside.top - out.top, out.right - inside.right,
            out.bottom - inside.bottom);
        })"""
    )
    assert max(gaps) < 1
    page.select_option("#zoom", "")
    assert page.evaluate(transforms) == ["", "", ""]
