"""Files of comparisons and votes: what is refused and why, what votes come to, people kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ipa_bench.errors import UserError
from trainers.preferences import outcomes, read_comparisons, read_votes
from trainers.preferences.votes import Comparison, Vote


def written(folder: Path, *comparisons: dict[str, Any]) -> Path:
    for name in ("a.mp4", "b.mp4", "anna.png"):
        (folder / name).touch()
    path = folder / "comparisons.json"
    rows = [{"a": "a.mp4", "b": "b.mp4", "references": {"anna": "anna.png"}} | each for each in comparisons]
    path.write_text(json.dumps({"schema_version": 1, "comparisons": rows}))
    return path


def votes_in(folder: Path, *votes: tuple[str, str, str], name: str = "votes.json") -> Path:
    path = folder / name
    rows = [{"comparison": c, "choice": choice, "annotator": who} for c, choice, who in votes]
    path.write_text(json.dumps({"schema_version": 1, "votes": rows}))
    return path


def vote(comparison: str, choice: Any, annotator: str, left: Any = None) -> Vote:
    return Vote(comparison=comparison, choice=choice, annotator=annotator, left=left)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": "gone.mp4"}, "gone.mp4 is not there"),
        ({"a": "../a.mp4"}, "outside"),
        ({"references": {}}, "references"),
        ({"wrong": 1}, "wrong"),
    ],
)
def test_a_comparison_that_cannot_be_shown_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(UserError, match=said):
        read_comparisons(written(folder, {"id": "one"} | changes))


def test_two_comparisons_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two comparisons are called 'one'"):
        read_comparisons(written(tmp_path, {"id": "one"}, {"id": "one"}))


def test_votes_that_contradict_themselves_are_refused_and_a_repeated_one_counts_once(tmp_path: Path) -> None:
    first = votes_in(tmp_path, ("one", "a", "eva"))
    again = votes_in(tmp_path, ("one", "a", "eva"), name="again.json")
    other = votes_in(tmp_path, ("one", "b", "eva"), name="other.json")
    assert len(read_votes([first, again], ["one"]).votes) == 1
    with pytest.raises(UserError, match="eva voted a and b on one"):
        read_votes([first, other], ["one"])
    with pytest.raises(UserError, match="no comparison 'one'"):
        read_votes([first], ["two"])


@pytest.mark.parametrize("text", ["{", "[]", '{"votes": [{"comparison": "one"}]}', "\xff"])
def test_what_is_no_file_of_votes_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "votes.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"votes\.json"):
        read_votes([path], ["one"])


def test_several_votes_become_shares_and_ties_alone_teach_nothing() -> None:
    rows = [Comparison(id=name, a="a", b="b", references={"x": "x"}) for name in ("one", "two", "three")]
    votes = [vote("one", "a", "eva"), vote("one", "tie", "jo"), vote("two", "b", "eva")]
    assert outcomes.shares(rows, votes) == {"one": (0.5, 0.5, 0.0), "two": (0.0, 0.0, 1.0)}
    with pytest.raises(UserError, match="all 1 comparisons are ties"):
        outcomes.shares(rows, [vote("one", "tie", "eva")])


def test_agreement_is_krippendorffs() -> None:
    """Three units of two voters, worked out by hand: coincidences a-a 2, tie-tie 2, a-b 2 of 6."""
    votes = [vote(n, c, w) for n, cs in (("1", "aa"), ("2", "tt"), ("3", "ab")) for c, w in zip(
        [{"t": "tie"}.get(x, x) for x in cs], ("eva", "jo"), strict=True)]  # fmt: skip
    # observed 2 / 6; expected 1 - (3 * 2 + 2 * 1 + 1 * 0) / (6 * 5) = 22 / 30
    assert outcomes.agreement(votes).value == pytest.approx(1 - (2 / 6) / (22 / 30))
    assert outcomes.agreement(votes[:1]).reason == "no comparison has two votes"
    assert outcomes.agreement(votes[:2]).reason == "all votes are the same"


def test_a_bias_of_side_is_seen() -> None:
    votes = [vote(str(n), "a", "eva", left="a") for n in range(3)] + [vote("3", "b", "eva", left="a")]
    found = outcomes.trust(votes)
    assert (found.votes, found.annotators, found.left.value) == (4, 1, 0.75)


def test_nobody_is_trained_on_and_tried() -> None:
    pairs = [("x", "y"), ("y", "z"), ("v", "w"), ("u", "t"), ("s", "r")]
    rows = [Comparison(id=str(i), a="a", b="b", references=dict.fromkeys(p, "r")) for i, p in enumerate(pairs)]
    assert sorted(map(sorted, outcomes.groups(rows))) == [[0, 1], [2], [3], [4]]
    for seed in range(8):
        train, tried = outcomes.split(rows, 0.3, seed)
        assert sorted(train + tried) == [0, 1, 2, 3, 4]
        assert not {n for i in train for n in pairs[i]} & {n for i in tried for n in pairs[i]}
    with pytest.raises(UserError, match="1 group"):
        outcomes.split(rows[:2], 0.3, 0)
