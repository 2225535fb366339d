"""Who is who on the page: rows for people, the reference's face beside the clip's, overlays, moments of faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_bench.report import faces, html
from ipa_bench.report.view import ReportView
from ipa_bench.report.worst import worst_moments
from ipa_bench.store import Details, PeopleDetails, Unit
from tests.browser import tab
from tests.report import build
from tests.report.pages import SCRUB, open_page, settle

NAMES = ("anna", "<b>ben</b>")
PEOPLE = """(frame) => ({
  rows: [...document.querySelectorAll("#people .who-name")].map((each) => each.textContent),
  readouts: [...document.querySelectorAll("#people .readout")].map((each) => each.textContent),
  shares: [...document.querySelectorAll("#people .who-line .unit")].map((each) => each.textContent),
  pictures: [...document.querySelectorAll("#people img")].map((each) => each.naturalWidth),
})"""
BAND = """(place) => {
  const canvas = document.querySelectorAll("#people canvas")[place];
  const context = canvas.getContext("2d");
  return [0.1, 0.375, 0.625, 0.9].map((share) => {
    const [r, g, b, a] = context.getImageData(Math.floor(share * canvas.width), canvas.height - 2, 1, 1).data;
    return a ? `${r},${g},${b}` : "";
  });
}"""


def people_of(frames: int, folder: Path) -> PeopleDetails:
    """Anna's face is Ben's from a quarter to half of the time, and missing from then to three quarters."""
    quarter = frames // 4
    whose = np.tile(np.array([0, 1], np.int8), (frames, 1))
    whose[quarter : 2 * quarter, 0] = 1
    found = np.ones((frames, 2), bool)
    found[2 * quarter : 3 * quarter, 0] = False
    likeness = np.where(found, 0.7, 0.0).astype(np.float32)
    likeness[quarter : 2 * quarter, 0] = 0.1
    likeness[-1, 1] = 0.4
    box = np.tile(np.array([[0.1, 0.1, 0.3, 0.4], [0.6, 0.1, 0.8, 0.4]], np.float32), (frames, 1, 1))
    return PeopleDetails(
        names=NAMES, network="sface", expected=np.ones((frames, 2), bool), found=found, judged=found,
        whose=np.where(found, whose, -1).astype(np.int8), likeness=likeness, same=0.363, box=box,
        points=np.repeat(box[..., None, :2], 5, axis=2) + 0.05, pictures=(str(folder / "anna.png"), "gone.png"),
        faces=np.array([[10, 10, 50, 60], [0, 0, 9, 9]], np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportView, Path]:
    folder = tmp_path_factory.mktemp("people")
    Image.fromarray(np.full((90, 70, 3), 200, np.uint8)).save(folder / "anna.png")
    models = {"a": (25.0, 1.6, 0.05), "b": (25.0, 1.6, 0.03)}
    made = build.make_run(folder, identities=1, models=models)

    def details(unit: Unit) -> Details | None:
        found = made.details(unit)
        return found and replace(found, people=people_of(len(found.times), folder) if unit[2] == "a" else None)

    view = replace(made, details=details)
    return view, html.write(view, folder, jobs=1)


def test_each_person_has_a_row_with_face_share_and_band(browser: Any, page: tuple[ReportView, Path]) -> None:
    view, path = page
    models = [row.model for row in view.leaderboard.rows]
    with tab(browser) as found:
        open_page(found, path, f"#clip=0.0.{models.index('a')}.none.0.04", f"0.0.{models.index('a')}.null")
        said = found.page.evaluate(PEOPLE)
        assert said["rows"] == list(NAMES)
        assert said["shares"] == ["own face in 50 % of 40 frames", "own face in 100 % of 40 frames"]
        assert said["pictures"] == [faces.SIDE]
        assert "no picture" in found.page.inner_text("#people")
        expected = {2: "0.7", 12: "<b>ben</b>'s face (0.1)", 25: "missing", 35: "0.7"}
        for frame, readout in expected.items():
            found.page.evaluate(SCRUB, frame)
            settle(found)
            assert found.page.evaluate(PEOPLE)["readouts"] == [readout, "0.7"]
        own, exchanged, missing, again = found.page.evaluate(BAND, 0)
        other = found.page.evaluate(BAND, 1)[0]
        assert len({own, other, missing}) == 3
        assert (again, exchanged) == (own, other)
        assert found.trouble == []


def test_faces_are_drawn_over_the_video_and_can_be_left_out(browser: Any, page: tuple[ReportView, Path]) -> None:
    view, path = page
    models = [row.model for row in view.leaderboard.rows]
    ink = """() => {
      const canvas = document.querySelector("[data-panel=a] canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width / 2, canvas.height * 0.45);
      return data.filter((value, index) => index % 4 === 3 && value > 0).length;
    }"""
    with tab(browser) as found:
        open_page(found, path, f"#clip=0.0.{models.index('a')}.none.0.04", f"0.0.{models.index('a')}.null")
        found.page.uncheck("#show-hands")
        drawn = found.page.evaluate(ink)
        found.page.uncheck("#show-faces")
        assert drawn > 200
        assert found.page.evaluate(ink) == 0
        found.page.select_option("#pick-a", str(models.index("b")))
        found.page.wait_for_function("() => document.getElementById('people').hidden")
        assert not found.page.locator("#show-faces").is_visible()
        assert found.trouble == []


def test_moments_of_faces_stand_beside_the_reference(page: tuple[ReportView, Path]) -> None:
    view, path = page
    groups = {group.title: group.cards for group in worst_moments(view)}
    (other,) = groups["A face is somebody else's"]
    assert (other.moment.person, other.moment.frame, other.moment.value) == ("anna", 15, pytest.approx(0.4))
    assert other.moment.measured == "s with the face of <b>ben</b>"
    assert other.moment.box == pytest.approx((0.1, 0.1, 0.3, 0.4))
    (missing,) = groups["A face is not found"]
    assert (missing.moment.person, missing.moment.frame, missing.moment.box) == ("anna", 25, None)
    (unlike,) = groups["A face is unlike its reference"]
    assert (unlike.moment.person, unlike.moment.frame) == (NAMES[1], 39)
    text = path.read_text(encoding="utf-8")
    assert "<b>ben</b>" not in text.partition('id="run-data"')[0]
    shown = [part.partition('"')[0] for part in text.split('<img src="')[1:]]
    assert all((path.parent / name).is_file() for name in shown)


def test_frames_without_a_face_say_why() -> None:
    people = people_of(8, Path())
    small = replace(people, judged=people.judged & (np.arange(8) != 7)[:, None], expected=people.expected.copy())
    small.expected[4:6, 0] = False
    data = faces.people_data(small, {}, 100)
    assert data["who"][0] == [0, 0, 1, 1, faces.NOT_DUE, faces.NOT_DUE, 0, faces.SMALL]
    assert data["likeness"][0][-1] is None
    assert data["box"][4] == [None, [60, 10, 80, 40]]
    assert data["pictures"] == [None, None]
