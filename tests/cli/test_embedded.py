"""The verbs of the built-in world: their defaults are those of what they call, and mistakes come before the work."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from ipa_bench.cli import embedded
from ipa_bench.embedded import cases
from tests.verbs import verb
from trainers.embedded import footage


def test_defaults_in_the_help_are_those_of_the_rooms() -> None:
    def default(of: object, name: str) -> object:
        assert callable(of)
        return inspect.signature(of).parameters[name].default

    assert default(embedded.suite, "steps") == cases.STEPS
    assert default(embedded.footage, "people") == footage.PEOPLE.identities


@pytest.mark.parametrize(
    "arguments",
    [
        ("suite", "new", "--identities", "0"),
        ("suite", "new", "--split", "dev"),
        ("suite", "new", "--align", "0", "0", "0"),
        ("suite", "new", "--align", "1", "2"),
        ("suite", "new", "--arrangement", "wave"),
        ("suite", "new", "--people", "2", "--arrangement", "wave,dance"),
        ("suite", "new", "--people", "2", "--arrangement", "wave", "--takes", "2"),
        ("suite", "file/new"),
        ("footage", "new", "--people", "0"),
        ("nets", "audio", "new"),
        ("nets", "video", "new", "--jobs", "0"),
        ("nets", "video", "file/new", "--people", "1", "--held-out", "1", "--steps", "1", "--jobs", "1"),
        ("pretrain", "nowhere.toml"),
    ],
)
def test_mistakes_are_status_2_and_leave_nothing(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert verb("embedded", *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_contact_sheet_shows_a_row_for_each_person(tmp_path: Path) -> None:
    from PIL import Image

    assert verb("embedded", "suite", tmp_path / "few", "--identities", "2", "--sheet", tmp_path / "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (13 * 128, 2 * 128)  # reference, then pose map and frame at six moments
