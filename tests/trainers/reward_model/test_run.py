"""``ipa-bench reward``: from synthetic faults and from votes to a reward; pages; what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.pose import BODY_JOINTS, Pose, write_track
from ipa_bench.store import RunHeader, RunStore, UnitRecord
from ipa_bench.types import Case
from tests.browser import Tab, chromium, tab
from tests.verbs import verb
from trainers.preferences import of_run, page, read_comparisons, read_votes
from trainers.reward_model import file
from trainers.reward_model.seen import look, wanted
from trainers.rewards import find

PEOPLE = ("anna", "ben", "carl", "dora")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two comparisons of two people each: one clip shows the colours of the references, the other does not."""
    folder = tmp_path_factory.mktemp("compared <b>")
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 215, (4, 3))
    for name, colour in zip(PEOPLE, colours, strict=True):
        Image.fromarray(np.full((64, 104, 3), colour, np.uint8)).save(folder / f"{name}.png")
    rows = []
    for number in range(2):
        pair = colours[2 * number : 2 * number + 2]
        for clip, shown in (("good", pair), ("bad", pair[::-1])):
            frames = np.zeros((8, 64, 104, 3), np.uint8)
            frames[:, :, :52], frames[:, :, 52:] = shown[0], shown[1]
            video.encode(frames, folder / f"{clip}{number}.mp4", 8.0)
        names = PEOPLE[2 * number : 2 * number + 2]
        rows.append(
            {
                "id": f"</script><b>{number}",
                "a": f"good{number}.mp4",
                "b": f"bad{number}.mp4",
                "references": {name: f"{name}.png" for name in names},
            }
        )
    (folder / "comparisons.json").write_text(json.dumps({"schema_version": 1, "comparisons": rows}))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    config = folder / "tiny.toml"
    config.write_text('name = "tiny"\n[synthetic]\ngroups = 1\nheld_out = 1\n[train]\nsteps = 2\nbatch = 2\n')
    assert verb("reward", "train", config, "--out", folder / "run", "--jobs", 1) == 0
    return folder / "run" / "model"


def test_a_reward_scores_a_case_and_marks_its_family(trained: Path, compared: Path) -> None:
    reward = find(f"video:{trained}")
    people = tuple((name, compared / f"{name}.png") for name in PEOPLE[:2])
    case = Case("one", compared / "good0.mp4", references=people)
    scores = reward.look(case, [compared / "good0.mp4", compared / "bad0.mp4"])
    assert all(isinstance(score.value, float) for score in scores)
    assert reward.chooser.by == (reward.info.id, "reward.tiny")
    alone = Case("none", compared / "good0.mp4")
    assert reward.look(alone, [compared / "good0.mp4"])[0].reason == "the case has no reference picture"
    torn = compared / "torn.mp4"
    torn.write_bytes((compared / "good0.mp4").read_bytes()[:200])
    assert reward.look(case, [torn])[0].value is None


def test_a_pose_belongs_to_its_own_person(compared: Path, tmp_path: Path) -> None:
    """Of two people the second alone has a track: the first has no places, and not the second's."""
    body = np.zeros((8, 18, 2), np.float32)
    body[:, BODY_JOINTS.index("left_shoulder"), 0] = 20
    pose = Pose(body, np.ones((8, 18), bool), np.zeros((8, 2, 21, 2), np.float32), np.ones((8, 2, 21), bool), (104, 64))
    write_track(pose, 8.0, tmp_path / "ben.npz")
    of = wanted({name: compared / f"{name}.png" for name in PEOPLE[:2]}, {"ben": tmp_path / "ben.npz"})
    seen = look(compared / "good0.mp4", of, frames=3, shrunk=lambda size: size)
    assert not seen.places[0].any()
    assert (seen.places[1, ..., 2] == np.float32(10 / 64)).all()


def test_the_card_says_how_good_it_is(trained: Path) -> None:
    card = json.loads((trained / "reward.json").read_text())
    kinds = {kind["name"] for kind in card["trained"]["held_out"]["model"]["kinds"]}
    assert {"swap", "swap_back", "light", "flicker"} <= kinds
    assert set(card["trained"]["held_out"]) == {"model", "colours"}


def test_weights_that_are_not_the_cards_are_refused(trained: Path, tmp_path: Path) -> None:
    for name in (file.CARD, file.WEIGHTS):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    with (tmp_path / file.WEIGHTS).open("r+b") as handle:
        handle.seek(-1, 2)
        handle.write(b"\x01")
    with pytest.raises(UserError, match="is not the file that its card names"):
        find(f"video:{tmp_path}")
    with pytest.raises(UserError, match="is no reward model"):
        find(f"video:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="names no reward model"):
        find("video:")


def test_votes_train_a_reward(compared: Path, tmp_path: Path) -> None:
    ids = [each.id for each in read_comparisons(compared / "comparisons.json").comparisons]
    votes = [{"comparison": id_, "choice": "a", "annotator": who, "left": "a"} for id_ in ids for who in ("eva", "jo")]
    (compared / "votes.json").write_text(json.dumps({"schema_version": 1, "votes": votes}))
    config = compared / "votes.toml"
    config.write_text(
        'name = "voted"\n[votes]\ncomparisons = "comparisons.json"\nvotes = ["votes.json"]\nheld_out = 0.5\n'
        "[train]\nsteps = 2\nbatch = 1\n"
    )
    assert verb("reward", "train", config, "--out", tmp_path / "run", "--jobs", 1) == 0
    assert find(f"video:{tmp_path / 'run' / 'model'}").info.unit == "logit"


def test_pairs_of_a_run_are_copied_with_all_that_a_voter_sees(compared: Path, tmp_path: Path) -> None:
    people = tuple((name, compared / f"{name}.png") for name in PEOPLE[:2])
    pose = Pose(
        np.zeros((8, 18, 2), np.float32), np.ones((8, 18), bool), np.zeros((8, 2, 21, 2), np.float32),
        np.ones((8, 2, 21), bool), (104, 64),
    )  # fmt: skip
    write_track(pose, 8.0, tmp_path / "anna.npz")
    case = Case(
        "a/b", compared / "good0.mp4", split="train", references=people, poses=(("anna", tmp_path / "anna.npz"),)
    )
    header = RunHeader("r", "0", "a@1", (0, 1, 2), (), (), ())
    store = RunStore.open(tmp_path / "run", header)
    for seed, clip in enumerate(("good0", "bad0", "good0")):
        store.append(UnitRecord("a/b", seed, "m", str(compared / f"{clip}.mp4"), "0"))
    path = of_run.gather(store, [case], tmp_path / "out", per_case=2, split="train")
    found = read_comparisons(path).comparisons
    assert len(found) == 2
    assert found[0].identities == PEOPLE[:2]
    assert list(found[0].poses) == ["anna"]
    assert len(list((tmp_path / "out" / "clips").iterdir())) == 3
    with pytest.raises(UserError, match="no case of the run has two videos"):
        of_run.gather(store, [case], tmp_path / "none", per_case=2, split="val")


def test_a_configuration_without_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "none.toml"
    config.write_text('name = "none"\n')
    assert verb("reward", "train", config) == 2
    assert "nothing to learn from" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def voting(browser: Any, compared: Path) -> Iterator[Tab]:
    path = page.write(read_comparisons(compared / "comparisons.json"), compared / "comparisons.json")
    with tab(browser) as found:
        found.page.goto(path.as_uri())
        yield found
        assert found.trouble == []


def begin(page: Any) -> None:
    page.fill("#annotator", "eva")
    page.press("#annotator", "Enter")
    page.wait_for_selector("#work:not([hidden])")


def test_keys_vote_undo_takes_back_and_the_page_goes_on(voting: Tab, compared: Path, tmp_path: Path) -> None:
    page = voting.page
    begin(page)
    assert page.text_content("#count") == "1 of 2"
    page.wait_for_function("document.getElementById('left').readyState > 1")
    page.keyboard.press("a")
    assert page.text_content("#count") == "2 of 2"
    page.keyboard.press("u")
    assert page.text_content("#count") == "1 of 2"
    page.keyboard.press("b")
    page.reload()
    begin(page)  # the same name goes on
    assert page.text_content("#count") == "2 of 2"
    page.keyboard.press("t")
    page.wait_for_selector("#done:not([hidden])")
    with page.expect_download() as download:
        page.click("#save")
    saved = tmp_path / "votes.json"
    download.value.save_as(saved)
    votes = json.loads(saved.read_text())["votes"]
    assert [vote["choice"] == "tie" for vote in votes] == [False, True]
    first = votes[0]
    assert first["choice"] == ("b" if first["left"] == "a" else "a")  # B is the clip on the right
    ids = [each.id for each in read_comparisons(compared / "comparisons.json").comparisons]
    assert len(read_votes([saved], ids).votes) == 2


def test_names_in_the_page_are_text(voting: Tab) -> None:
    begin(voting.page)
    assert voting.page.query_selector_all("main b") == []
    assert voting.page.title().endswith("votes")
