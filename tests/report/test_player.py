"""Playing and stepping in a real browser: which frame is on screen, and whether the videos agree."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.report import html
from ipa_bench.report.view import ReportView
from ipa_bench.store import CaseEntry, Details, ModelEntry, UnitRecord
from ipa_bench.types import UInt8
from tests.browser import Tab, tab
from tests.report import build
from tests.report.pages import DRIFT, READY, SCRUB, open_page, settle


def test_three_videos_play_in_step(opened: Tab) -> None:
    opened.page.uncheck("#loop")
    opened.page.click("#play")
    found = opened.page.evaluate(DRIFT, 0.85)  # the shortest ends after 1.25
    assert found["paused"] == [False] * 6  # three players, and a close-up of each
    assert found["last"][0] > 0.5
    assert found["worst"] < 1 / 25


def test_they_stay_in_step_at_another_speed_and_after_a_stall(opened: Tab) -> None:
    opened.page.uncheck("#loop")
    opened.page.select_option("#speed", "0.5")
    opened.page.click("#play")
    opened.page.wait_for_timeout(300)
    opened.page.evaluate("document.querySelector('[data-panel=b] video').currentTime += 0.15")
    found = opened.page.evaluate(DRIFT, 1.4)
    assert found["paused"] == [False] * 6
    assert abs(found["last"][0] - found["last"][2]) < 1 / 25


def test_a_shorter_clip_waits_on_its_last_frame_and_all_loop_together(opened: Tab) -> None:
    opened.page.uncheck("#loop")
    opened.page.click("#play")
    opened.page.wait_for_function("() => document.getElementById('play').getAttribute('aria-label') === 'Play'")
    settle(opened)
    times = opened.page.evaluate("[...document.querySelectorAll('.stage video')].map((v) => v.currentTime)")
    assert times[0] == pytest.approx(39.5 / 25, abs=0.001)
    assert times[2] == pytest.approx(19.5 / 16, abs=0.001)
    opened.page.check("#loop")
    opened.page.click("#play")
    found = opened.page.evaluate(
        """async () => {
          const videos = [...document.querySelectorAll("video")];
          const begin = performance.now();
          let before = 0, rounds = 0, worst = 0;
          while (rounds < 2 && performance.now() - begin < 4500) {
            await new Promise(requestAnimationFrame);
            const times = videos.map((video) => video.currentTime);
            if (times[0] < before - 1) rounds += 1;
            before = times[0];
            // until the shortest ends, and after a moment to start
            if (times[0] > 0.5 && times[0] < 1.2) worst = Math.max(worst, Math.max(...times) - Math.min(...times));
          }
          return { rounds, worst };
        }"""
    )
    assert found["rounds"] >= 2
    assert found["worst"] < 1 / 25


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
    opened.page.wait_for_function("() => document.getElementById('scrub').value > 4")
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


@pytest.mark.slow
def test_real_footage_plays_in_step(browser: Any, tmp_path: Path, whole_media: Path) -> None:
    """Clips of different length, size and rate, as they come from cameras; by default, three of two rates, above."""
    hand, person = whole_media / "hand_640x360.mp4", whole_media / "gesture_1280x720.mp4"
    slow = tmp_path / "slow.mp4"
    halved = (frame.image for index, frame in enumerate(islice(video.read_frames(hand), 100)) if index % 2 == 0)
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
