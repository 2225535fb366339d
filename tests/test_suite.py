"""A suite file becomes cases × models × seeds, or the line that is wrong."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from ipa_bench.errors import UserError
from ipa_bench.models.specs import DamageSpec, FolderSpec
from ipa_bench.suite import Suite, load_suite, suite_from_folders
from ipa_bench.types import Case

WAVE = '[[case]]\ndriving = "clips/wave.mp4"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with clips, ground truths, an image and two folders of outputs."""
    for file in ("clips/wave.mp4", "clips/alice__nod.MOV", "truth/wave.webm", "truth/alice__nod.mp4", "alice.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(file.encode())
    (tmp_path / "clips" / ".wave.mp4").write_bytes(b"hidden")
    (tmp_path / "clips" / "notes.txt").write_bytes(b"text")
    for folder in ("outA", "outB", "empty"):
        (tmp_path / folder).mkdir()
    return tmp_path


def load(home: Path, text: str) -> Suite:
    (home / "demo.toml").write_text(text)
    return load_suite(home / "demo.toml")


def test_everything_that_can_be_said(home: Path) -> None:
    suite = load(
        home,
        """
[suite]
name = "hands"
primary = "hand.pck@1"
seeds = [0, 4]
metrics = ["hand.pck@1"]
[[case]]
id = "hello"
driving = "clips/wave.mp4"
ground_truth = "truth/wave.webm"
identity = "alice"
split = "train"
prompt = "a woman waves"
frames = 81
fps = 25
size = [832, 480]
tags = ["fast", "two hands"]
reference = "alice.png"
[[model]]
name = "A"
kind = "folder"
path = "outA"
trained_on = ["hand_quality@1"]
[[model]]
name = "melted"
kind = "damage"
damage = "melt"
""",
    )
    assert suite.cases == (
        Case(
            "hello", home / "clips/wave.mp4", home / "truth/wave.webm", home / "alice.png", "alice", "train",
            "a woman waves", 81, 25.0, (832, 480), ("fast", "two hands"),
        ),
    )  # fmt: skip
    assert suite.models == (
        FolderSpec(name="A", kind="folder", path=home / "outA", trained_on=("hand_quality@1",)),
        DamageSpec(name="melted", kind="damage", damage="melt", strength="medium"),
    )
    assert (suite.name, suite.primary, suite.seeds) == ("hands", "hand.pck@1", (0, 4))
    assert suite.metrics == ("hand.pck@1",)


def test_the_defaults(home: Path) -> None:
    suite = load(home, WAVE + '[[case]]\ndriving = "clips/alice__nod.MOV"\nground_truth = "driving"\n')
    wave, nod = suite.cases
    assert (wave.id, wave.identity, wave.split, wave.ground_truth) == ("wave", "wave", "test", None)
    assert (nod.id, nod.identity, nod.ground_truth) == ("alice__nod", "alice", nod.driving)
    assert (suite.name, suite.primary, suite.seeds, suite.models) == ("demo", None, (0,), ())


@pytest.mark.parametrize(("truth", "expected"), [('"driving"', "clips"), ('"truth"', "truth"), (None, None)])
def test_a_folder_of_cases(home: Path, truth: str | None, expected: str | None) -> None:
    line = f"ground_truth = {truth}\n" if truth else ""
    suite = load(home, f'[cases]\ndriving = "clips"\n{line}split = "train"\nframes = 16\n')
    assert [(case.id, case.identity) for case in suite.cases] == [("alice__nod", "alice"), ("wave", "wave")]
    assert {(case.split, case.frames) for case in suite.cases} == {("train", 16)}
    found = [case.ground_truth and case.ground_truth.parent.name for case in suite.cases]
    assert found == [expected, expected]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", None, "there is no case"),
        ('[suite]\nnmae = "x"\n' + WAVE, 2, 'unknown key "nmae" in [suite] (did you mean "name"?)'),
        (WAVE + 'identty = "x"', 3, 'unknown key "identty" in [[case]] (did you mean "identity"?)'),
        (
            WAVE + '[[model]]\nname = "a"\nkind = "folder"\npth = "outA"',
            6,
            'unknown key "pth" in [[model]] (and 1 more)',
        ),
        (WAVE + '[[model]]\nkind = "damage"\ndamage = "melt"\nname = "a"\npath = "x"', 7, 'unknown key "path"'),
        (WAVE + '[modle]\nname = "a"', 3, 'unknown key "modle" in the file (did you mean "model"?)'),
        (
            WAVE + '[[model]]\nname = "a"\nkind = "foldr"',
            3,
            'unknown kind "foldr" in [[model]] (did you mean "folder"?)',
        ),
        (WAVE + '[[model]]\nname = "a"', 3, "[[model]] lacks kind (add kind = ...)"),
        (WAVE + '[[model]]\nname = "a"\nkind = "folder"', 3, "[[model]] lacks path (add path = ...)"),
        (WAVE + '[[case]]\nid = "x"', 3, "[[case]] lacks driving"),
        (WAVE + WAVE, 3, 'there are two cases with the id "wave"'),
        (WAVE + '[cases]\ndriving = "clips"', 4, 'there are two cases with the id "wave"'),
        (
            WAVE + 2 * '[[model]]\nname = "a"\nkind = "damage"\ndamage = "melt"\n',
            8,
            'there are two models named "a"',
        ),
        (WAVE + 'split = "tset"', 3, 'split in [[case]] cannot be "tset" (did you mean "test"?)'),
        (WAVE + 'frames = "81"', 3, "frames in [[case]] should be a valid integer, not '81'"),
        (WAVE + "frames = true", 3, "frames in [[case]] should be a valid integer, not True"),
        (WAVE + "frames = 0", 3, "frames in [[case]] should be greater than or equal to 1"),
        (WAVE + "fps = nan", 3, "fps in [[case]] should be a finite number"),
        (WAVE + "size = [832]", 3, "size in [[case]] has the wrong number of values"),
        (WAVE + "size = [832, 480, 3]", 3, "size in [[case]] has the wrong number of values"),
        (WAVE + 'tags = ["x",\n"x"]', 3, "tags in [[case]]: x is listed twice"),
        (WAVE + 'id = "a/b"', 3, "id in [[case]]: a name is not empty and has no slash"),
        (WAVE + 'id = ".."', 3, "id in [[case]]: a name is not empty"),
        ("[suite]\nseeds = []\n" + WAVE, 2, "seeds in [suite] has the wrong number of values"),
        ("[suite]\nseeds = [1, 1]\n" + WAVE, 2, "seeds in [suite]: 1 is listed twice"),
        ("[suite]\nseeds = [-1]\n" + WAVE, 2, "seeds in [suite] should be greater than or equal to 0"),
        (WAVE + '[[case]]\n\ndriving = "clips/sit.mp4"', 5, "clips/sit.mp4 is not there"),
        (WAVE + '[[case]]\ndriving = "clips"', 4, "clips is not a file"),
        (WAVE + '[[case]]\ndriving = "alice.png"', 4, "alice.png is not a video file"),
        (WAVE + 'ground_truth = "x.mp4"', 3, "x.mp4 is not there"),
        (WAVE + 'reference = "bob.png"', 3, "bob.png is not there"),
        (WAVE + 'references = { a = "alice.png", b = "bob.png" }', 3, "bob.png is not there"),
        (WAVE + 'references = { "a/b" = "alice.png" }', 3, "a name is not empty and has no slash"),
        (
            WAVE + 'reference = "alice.png"\nreferences = { a = "alice.png" }',
            3,
            "there are a reference and references",
        ),
        (
            WAVE + 'references = { a = "alice.png" }\nposes = { b = "alice.png" }',
            4,
            "b has a pose and no reference",
        ),
        (WAVE + 'references = { a = "alice.png", a = "alice.png" }', 3, "not TOML"),
        (WAVE + 'references = { a = "alice.png" }\nposes = { a = "gone.npz" }', 4, "gone.npz is not there"),
        (WAVE + 'world = "group9/test/0/0"', 3, "is no scene of the built-in world"),
        (
            WAVE + 'references = { a = "alice.png" }\nworld = "group2/test/0/0"',
            4,
            "the scene shows 2 people, and the case has 1 references",
        ),
        (WAVE + 'reference = "clips/../../bob.png"', 3, "clips/../../bob.png leads out of the folder of the suite"),
        (WAVE + '[[model]]\nname = "a"\nkind = "folder"\npath = "../outA"', 6, "../outA leads out of the folder"),
        (WAVE + '[[model]]\nname = "a"\nkind = "folder"\npath = "alice.png"', 6, "alice.png is not a folder"),
        ('[cases]\ndriving = "empty"', 2, "empty has no video file"),
        ('[cases]\ndriving = "clips"\nground_truth = "outA"', 3, "outA has no video file"),
        ("[suite]\nname = 'x", 2, "not TOML"),
    ],
)
def test_the_line_that_is_wrong(home: Path, text: str, line: int | None, said: str) -> None:
    with pytest.raises(UserError) as error:
        load(home, text)
    where = f"{home / 'demo.toml'}:" if line is None else f"{home / 'demo.toml'}:{line}:"
    assert str(error.value).startswith(where)
    assert said in str(error.value)
    assert error.value.fix


def test_several_people_by_name_and_their_groups(home: Path) -> None:
    def case(clip: str, people: str, more: str = "") -> str:
        names = ", ".join(f'{name} = "alice.png"' for name in people.split())
        return f'[[case]]\nid = "{clip}"\ndriving = "clips/wave.mp4"\nreferences = {{ {names} }}\n{more}'

    text = (
        case("one", "ben anna") + case("two", "cleo ben") + case("three", "dan") + case("four", "eve", 'identity = "x"')
    )
    one, two, three, four = load(home, text).cases
    assert one.references == (("ben", home / "alice.png"), ("anna", home / "alice.png"))  # in the order of the file
    assert one.people == one.references
    assert one.reference is None
    # Ben is in both: their clips are not independent.
    assert one.identity == two.identity == "anna+ben+cleo"
    assert (three.identity, four.identity) == ("dan", "x")


def test_poses_and_scene_of_a_case_belong_to_its_hash(home: Path) -> None:
    people = WAVE + 'references = { a = "alice.png", b = "alice.png" }\n'
    plain = load(home, people)
    posed = load(home, people + 'poses = { b = "alice.png" }')
    staged = load(home, people + 'world = "group2/test/3/0"')
    assert posed.cases[0].poses == (("b", home / "alice.png"),)
    assert staged.cases[0].world == "group2/test/3/0"
    assert len({plain.hash(), posed.hash(), staged.hash()}) == 3


def test_one_person_is_called_by_the_identity(home: Path) -> None:
    (case,) = load(home, WAVE + 'reference = "alice.png"\nidentity = "alice"').cases
    assert case.people == (("alice", home / "alice.png"),)
    (case,) = load(home, WAVE).cases
    assert case.people == ()
    (case,) = load(home, WAVE + 'ground_truth = "driving"').cases
    assert case.people == (("wave", case.driving),)  # its first frame shows the person


def test_a_clip_without_its_ground_truth_is_named(home: Path) -> None:
    (home / "truth" / "wave.webm").unlink()
    with pytest.raises(UserError, match=r"demo\.toml:3: truth has no ground truth for wave\.mp4"):
        load(home, '[cases]\ndriving = "clips"\nground_truth = "truth"')


def test_absolute_paths_lead_anywhere(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "suite").mkdir()
    suite = load(elsewhere / "suite", f'[[case]]\ndriving = "{home}/clips/wave.mp4"\n')
    assert suite.cases[0].driving == home / "clips" / "wave.mp4"


BOTH = '[[case]]\ndriving = "clips/wave.mp4"\n{}[[case]]\ndriving = "clips/alice__nod.MOV"\n'
MODELS = [
    '[[model]]\nname = "A"\nkind = "folder"\npath = "outA"\n',
    '[[model]]\nname = "B"\nkind = "folder"\npath = "outB"\n',
]


def test_the_hash_does_not_depend_on_order_or_place(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    tables = [WAVE, '[[case]]\ndriving = "clips/alice__nod.MOV"\n', *MODELS]
    first = load(home, "".join(tables)).hash()
    assert len(first) == 64
    for seed in range(4):
        random.Random(seed).shuffle(tables)
        assert load(home, "".join(tables)).hash() == first
    moved = shutil.copytree(home, tmp_path_factory.mktemp("moved") / "x")
    assert load_suite(moved / "demo.toml").hash() == first
    assert suite_from_folders(home / "clips", [], cross_identity=True).hash() == first


@pytest.mark.parametrize(
    "change",
    [
        'split = "val"\n',
        "frames = 8\n",
        'id = "x"\n',
        'identity = "x"\n',
        'prompt = "x"\n',
        "fps = 8\n",
        "size = [8, 8]\n",
        'tags = ["x"]\n',
        'reference = "alice.png"\n',
        'references = { alice = "alice.png" }\n',
        'references = { alice = "alice.png", ben = "alice.png" }\n',
        'references = { ben = "alice.png", alice = "alice.png" }\n',
        'ground_truth = "driving"\n',
        'ground_truth = "truth/wave.webm"\n',
    ],
)
def test_the_hash_depends_on_what_is_asked(home: Path, change: str) -> None:
    assert load(home, BOTH.format(change)).hash() != load(home, BOTH.format("")).hash()


def test_the_hash_depends_on_the_bytes_of_the_clips(home: Path) -> None:
    suite = load(home, WAVE)
    before = suite.hash()
    (home / "clips" / "wave.mp4").write_bytes(b"another take")
    assert suite.hash() != before
    (home / "clips" / "wave.mp4").unlink()
    with pytest.raises(UserError, match="cannot read"):
        suite.hash()


def test_runs_of_other_models_are_of_the_same_suite(home: Path) -> None:
    hashes = {load(home, WAVE + model).hash() for model in ("", *MODELS)}
    assert len(hashes) == 1


def test_a_limit_is_a_trial_of_the_same_suite(home: Path) -> None:
    suite = load(home, '[cases]\ndriving = "clips"\n')
    trial = suite.limit(1)
    assert [case.id for case in trial.cases] == ["alice__nod"]
    assert trial.hash() == trial.limit(1).hash() == suite.hash()
    assert suite.limit(99).cases == suite.cases
    with pytest.raises(UserError, match="leaves no case"):
        suite.limit(0)


@pytest.mark.parametrize("cross", [False, True])
def test_the_shorthand_for_folders(home: Path, cross: bool) -> None:
    models = [("A", home / "outA"), ("B", home / "outB")]
    suite = suite_from_folders(home / "clips", models, cross_identity=cross, primary="hand.pck")
    assert [case.id for case in suite.cases] == ["alice__nod", "wave"]
    assert all(case.ground_truth == (None if cross else case.driving) for case in suite.cases)
    assert [case.identity for case in suite.cases] == ["alice", "wave"]
    assert {case.split for case in suite.cases} == {"test"}
    assert [(spec.name, spec.kind) for spec in suite.models] == [("A", "folder"), ("B", "folder")]
    assert (suite.name, suite.primary) == ("clips", "hand.pck")


def test_the_shorthand_takes_files_and_folders_alike(home: Path) -> None:
    one = suite_from_folders(home / "clips" / "wave.mp4", [])
    assert [case.id for case in one.cases] == ["wave"]
    more = suite_from_folders([home / "clips" / "wave.mp4", home / "clips" / "alice__nod.MOV"], [])
    assert more.hash() == suite_from_folders(home / "clips", []).hash()


@pytest.mark.parametrize(
    ("clips", "models", "said"),
    [
        (["clips", "truth"], [], "are both case"),
        (["empty"], [], "has no video file"),
        (["nowhere"], [], "cannot list"),
        ([], [], "no driving clip given"),
        (["clips"], [("A", "nowhere")], "is not a folder"),
        (["clips"], [("A", "outA"), ("A", "outB")], "are both model A"),
        (["clips"], [("x/y", "outA")], "cannot name a model"),
    ],
)
def test_mistakes_in_the_shorthand(
    home: Path, clips: Sequence[str], models: Sequence[tuple[str, str]], said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        suite_from_folders([home / clip for clip in clips], [(name, home / path) for name, path in models])
    assert error.value.fix
