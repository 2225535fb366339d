"""The command that makes the head: from photographs to a file, the same one twice, and what it says of missing ones."""

import json
import shutil

import pytest
from PIL import Image
from safetensors.torch import load_file

from ipa_bench.errors import UserError
from ipa_bench.nets.fingers import FILE, FingerHead
from tests.verbs import verb
from trainers.fingers import run as command
from trainers.fingers import sources


@pytest.fixture
def photographs(media, tmp_path):
    """Two people of each sign, who all show a thumb."""
    folder = tmp_path / "signs"
    small = Image.open(media / "thumb_up.jpg").convert("RGB")
    small.thumbnail((320, 320))
    for sign in range(10):
        (folder / str(sign)).mkdir(parents=True)
        small.save(folder / str(sign) / "IMG_1.JPG", quality=95)
        shutil.copy(folder / str(sign) / "IMG_1.JPG", folder / str(sign) / "IMG_2.JPG")
    return folder


@pytest.mark.slow
def test_photographs_become_a_file_and_the_same_twice(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HELD_OUT", range(1))
    monkeypatch.setattr(sources, "MARGIN", 0)
    monkeypatch.setattr(command, "RENDERED", 1)
    found = []
    for name in ("one", "two"):
        measured = command.made(photographs, [], [], tmp_path / name, 2, 3, 0)
        assert 0 <= measured["photographs"]["paired"] <= 1
        json.dumps(measured, default=float)
        found.append(measured["sha256"])
    assert found[0] == found[1]
    FingerHead().load_state_dict({k: v.float() for k, v in load_file(tmp_path / "one" / FILE).items()})


def test_photographs_that_are_not_there_are_said(tmp_path):
    with pytest.raises(UserError, match="no photographs in"):
        next(sources.photographs(tmp_path))


def test_the_command_says_it_in_a_line(tmp_path, capsys):
    assert verb("embedded", "fingers", tmp_path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "no photographs in" in said
    assert "Traceback" not in said
