"""What does not fit in cases of several people: one line each, before anything is made or scored, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video, weights
from ipa_bench.cache import Cache
from ipa_bench.harness.fit import misfits
from ipa_bench.observers.looker import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.suite import Suite
from ipa_bench.types import Case
from tests.nets.faces import picture
from tests.nets.golden import published_file
from tests.observers.test_faces import ANNA, BEN, pair, scene
from tests.verbs import verb


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("yunet", "sface"):
        published_file(name)
    root = tmp_path_factory.mktemp("fit")
    video.encode(iter([pair(ANNA, BEN)] * 3), root / "both.mp4", 8)
    video.encode(iter([scene((picture("glasses_110"), 80, 60))] * 3), root / "alone.mp4", 8)
    for name, image in {"anna": "glasses_180", "ben": "astronaut_180"}.items():
        Image.fromarray(picture(image)).save(root / f"{name}.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(root / "blank.png")
    Image.fromarray(pair(ANNA, BEN)).save(root / "two.png")
    (root / "track.npz").write_bytes(b"no track")
    return root


@pytest.fixture
def looker(tmp_path: Path) -> Looker:
    return Looker(Cache(tmp_path / "cache"))


def lines(case: Case, looker: Looker) -> Sequence[str]:
    return list(misfits(Suite("s", (case,), ()), looker))


def case_of(folder: Path, clip: str, **people: str) -> Case:
    references = tuple((name, folder / file) for name, file in people.items())
    return Case("duo", folder / clip, folder / clip, references=references)


def test_a_case_that_fits_has_no_line(folder: Path, looker: Looker) -> None:
    assert lines(case_of(folder, "both.mp4", anna="anna.png", ben="ben.png"), looker) == []


def test_each_thing_that_does_not_fit_has_its_line(folder: Path, looker: Looker) -> None:
    blank = lines(case_of(folder, "both.mp4", anna="anna.png", ben="blank.png"), looker)
    assert blank == ["duo: ben: no face is found in the reference picture"]
    two = lines(case_of(folder, "both.mp4", anna="anna.png", ben="two.png"), looker)
    assert two == ["duo: ben: the reference picture shows more than one face: cut out the person's own"]
    same = lines(case_of(folder, "both.mp4", anna="anna.png", ben="anna.png"), looker)
    assert same == ["duo: anna and ben have one picture: they cannot be told apart"]
    fewer = lines(case_of(folder, "both.mp4", anna="anna.png"), looker)
    assert fewer == ["duo: both.mp4 shows 2 faces at once, and the case names 1 people"]
    more = lines(case_of(folder, "alone.mp4", anna="anna.png", ben="ben.png"), looker)
    assert more == ["duo: alone.mp4 shows no more than 1 of 2 faces at 5 moments"]
    posed = replace(case_of(folder, "both.mp4", anna="anna.png", ben="ben.png"), poses=(("ben", folder / "track.npz"),))
    assert [line.partition(" is no pose track")[0] for line in lines(posed, looker)] == ["duo: ben: track.npz"]


def test_a_network_of_another_hash_is_one_line_whoever_is_asked_for(
    folder: Path, looker: Looker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights.path("sface")
    for there in (file, weights.path("yunet")):
        (tmp_path / there.name).write_bytes(there.read_bytes())
    with (tmp_path / file.name).open("r+b") as damaged:
        damaged.seek(1000)
        damaged.write(b"x")
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path))
    two = [case_of(folder, "both.mp4", anna="anna.png", ben="ben.png"), case_of(folder, "both.mp4", anna="anna.png")]
    found = list(misfits(Suite("s", tuple(two), ()), looker))
    assert len(found) == 2
    assert found[0].startswith(f"faces cannot be told apart: {tmp_path / file.name} is not sface: expected sha256 ")
    assert found[1] == "duo: both.mp4 shows 2 faces at once, and the case names 1 people"  # what else is wrong
    scores = Scorer(looker, ["identity.similarity.sface", "frame.psnr"]).score(folder / "both.mp4", two[0])
    assert str(scores["identity.similarity.sface"].reason).startswith(f"{tmp_path / file.name} is not sface")
    assert scores["frame.psnr"].value is not None


def test_a_face_that_is_never_visible_is_missing_and_not_left_out(folder: Path, looker: Looker) -> None:
    video.encode(iter([scene()] * 3), folder / "nobody.mp4", 8)
    case = case_of(folder, "both.mp4", anna="anna.png", ben="ben.png")
    names = [f"identity.{name}.sface" for name in ("similarity", "coverage", "swap")]
    scores = Scorer(looker, [*names, "frame.psnr"]).score(folder / "nobody.mp4", case)
    assert [scores[name].value for name in names] == [0, 0, None]
    assert scores["identity.swap.sface"].reason == "no face is seen"
    assert scores["frame.psnr"].value is not None
    hidden = lines(case_of(folder, "nobody.mp4", anna="anna.png", ben="ben.png"), looker)
    assert hidden == ["duo: nobody.mp4 shows no more than 0 of 2 faces at 5 moments"]


def test_what_does_not_fit_costs_its_metrics_and_nothing_else(folder: Path, looker: Looker) -> None:
    scorer = Scorer(looker, ["identity.similarity.sface", "frame.psnr"])
    scores = scorer.score(folder / "both.mp4", case_of(folder, "both.mp4", anna="anna.png", ben="blank.png"))
    assert scores["identity.similarity.sface"].reason == "ben: no face is found in the reference picture"
    assert scores["frame.psnr"].value is not None


def test_a_suite_that_asks_nothing_of_people_is_not_looked_at(folder: Path) -> None:
    case = Case("one", folder / "gone.mp4", None, folder / "gone.png")
    assert list(misfits(Suite("s", (case,), ()))) == []


def test_the_dry_run_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = folder / "suite.toml"
    suite.write_text(
        '[[case]]\ndriving = "both.mp4"\nreferences = { anna = "anna.png", ben = "blank.png" }\n'
        '[[model]]\nname = "again"\nkind = "reencode"\n'
    )
    assert verb("run", suite, "--dry-run", "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "nothing was done" in said
    assert "both: ben: no face is found in the reference picture" in said
    assert not (tmp_path / "run").exists()
