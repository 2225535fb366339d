"""A folder of finished videos: which file serves which case and seed, and why none does."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.models import Model
from ipa_bench.models.folder import FolderModel, Missing
from ipa_bench.types import Case


def folder(path: Path, *files: str) -> FolderModel:
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_bytes(b"video")
    return FolderModel("A", path)


def case(id_: str = "wave") -> Case:
    return Case(id_, Path("clips/wave.mp4"))


def reason(model: FolderModel, id_: str, seed: int) -> str:
    with pytest.raises(Unscorable) as error:
        model.generate(case(id_), seed)
    return error.value.reason


@pytest.mark.parametrize(
    ("file", "seed"),
    [
        ("wave.mp4", 0),
        ("wave.MOV", 0),
        ("wave_seed3.mp4", 3),
        ("wave-seed3.webm", 3),
        ("wave_seed003.mp4", 3),
        ("wave/3.mp4", 3),
        ("wave/seed3.mp4", 3),
        ("wave/seed_0.mp4", 0),
    ],
)
def test_names_that_serve(tmp_path: Path, file: str, seed: int) -> None:
    model: Model = folder(tmp_path, file)
    assert model.generate(case(), seed) == tmp_path / file


@pytest.mark.parametrize(
    "file",
    ["Wave.mp4", "wave2.mp4", "wave.txt", "wave.mp4.part", ".wave.mp4", "wave/x.mp4", "wave/a/0.mp4", "waveseed0.mp4"],
)
def test_names_that_do_not_serve(tmp_path: Path, file: str) -> None:
    assert reason(folder(tmp_path, file), "wave", 0) == f"no video named wave in {tmp_path.name}"


def test_a_name_without_a_seed_serves_seed_0_only(tmp_path: Path) -> None:
    model = folder(tmp_path, "wave.mp4", "nod_seed2.mp4", "nod_seed5.mp4")
    assert reason(model, "wave", 1) == "no video for seed 1: wave.mp4 names no seed and serves seed 0 only"
    assert reason(model, "nod", 0) == "no video for seed 0, only for 2, 5"


def test_match_lists_what_is_found_missing_and_extra(tmp_path: Path) -> None:
    model = folder(tmp_path, "wave.mp4", "wave_seed1.mp4", "wave_seed7.mp4", "other.mp4", "nod/0.mp4", "notes.txt")
    match = model.match([case("wave"), case("nod"), case("sit")], (seed for seed in (0, 1)))
    files = {wanted: file.relative_to(tmp_path).as_posix() for wanted, file in match.found.items()}
    assert files == {("wave", 0): "wave.mp4", ("wave", 1): "wave_seed1.mp4", ("nod", 0): "nod/0.mp4"}
    assert match.missing == (
        Missing("nod", 1, "no video for seed 1, only for 0"),
        Missing("sit", 0, f"no video named sit in {tmp_path.name}"),
        Missing("sit", 1, f"no video named sit in {tmp_path.name}"),
    )
    assert [file.name for file in match.extra] == ["other.mp4", "wave_seed7.mp4"]


def test_match_sees_videos_that_were_added_since(tmp_path: Path) -> None:
    model = folder(tmp_path)
    assert len(model.match([case()], [0]).missing) == 1
    folder(tmp_path, "wave.mp4")
    assert len(model.match([case()], [0]).found) == 1


@pytest.mark.parametrize("other", ["wave_seed0.mp4", "wave.mov", "wave/0.mp4", "wave-seed00.mp4"])
def test_two_files_for_one_video_are_named(tmp_path: Path, other: str) -> None:
    model = folder(tmp_path, "wave.mp4", other)
    with pytest.raises(UserError) as error:
        model.match([case()], [0])
    assert "wave.mp4" in error.value.problem
    assert other in error.value.problem
    assert model.match([case()], [1]).missing  # nobody asked for seed 0: no harm done


def test_one_file_for_two_videos_is_named(tmp_path: Path) -> None:
    model = folder(tmp_path, "wave_seed1.mp4")
    with pytest.raises(UserError, match=r"wave_seed1\.mp4 can be case wave seed 1 or case wave_seed1 seed 0"):
        model.match([case("wave"), case("wave_seed1")], [0, 1])
    assert len(model.match([case("wave_seed1")], [0]).found) == 1


def test_names_are_compared_after_unicode_normalisation(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    model = folder(tmp_path, f"{decomposed}.mp4", f"{decomposed}/1.mp4")
    match = model.match([case("café")], [0, 1])
    assert set(match.found) == {("café", 0), ("café", 1)}


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"elsewhere")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "0.mp4").write_bytes(b"elsewhere")
    model = folder(tmp_path / "out", "real.mp4")
    (tmp_path / "out" / "wave.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "out" / "nod").symlink_to(tmp_path / "more")
    (tmp_path / "out" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "out" / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "out" / "same.mp4").symlink_to("real.mp4")
    fix = "put the file itself there, or give the folder that holds it"
    assert reason(model, "wave", 0) == f"wave.mp4 is a link out of the folder out: {fix}"
    assert reason(model, "nod", 0) == f"nod/0.mp4 is a link out of the folder out: {fix}"
    assert reason(model, "gone", 0) == "gone.mp4 is a link to nothing"
    assert reason(model, "loop", 0) == "loop.mp4 is a link to nothing"
    assert model.generate(case("same"), 0).read_bytes() == b"video"
    assert len(model.match([case("wave")], [0]).missing) == 1


def snapshot(root: Path, repository: str = "datasets--owner--name") -> tuple[Path, Path]:
    """(snapshot, blobs) of the hub's cache, with ``out/wave.mp4`` in it as the hub's client links it."""
    blobs, made = root / repository / "blobs", root / repository / "snapshots" / ("c0ffee" * 7)[:40]
    blobs.mkdir(parents=True)
    (made / "out").mkdir(parents=True)
    (blobs / ("ab" * 32)).write_bytes(b"video")
    (made / "out" / "wave.mp4").symlink_to(f"../../../blobs/{'ab' * 32}")
    return made, blobs


def test_links_of_a_hub_snapshot_are_followed(tmp_path: Path) -> None:
    made, _ = snapshot(tmp_path)
    assert FolderModel("A", made / "out").generate(case(), 0).read_bytes() == b"video"
    (tmp_path / "mine").symlink_to(made / "out")
    assert FolderModel("A", tmp_path / "mine").generate(case(), 0) == tmp_path / "mine" / "wave.mp4"


def test_links_from_a_hub_snapshot_to_anything_else_are_refused(tmp_path: Path) -> None:
    """Into another repository, past the blobs, to a blob that is none, and from a folder that only looks like one."""
    made, blobs = snapshot(tmp_path)
    _, others = snapshot(tmp_path, "models--other--name")
    (blobs / "notes").write_bytes(b"x")
    (blobs / ("cd" * 32)).symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "secret.mp4").write_bytes(b"elsewhere")
    links = {"other": others / ("ab" * 32), "named": blobs / "notes", "past": blobs / ("cd" * 32)}
    for name, target in links.items():
        (made / "out" / f"{name}.mp4").symlink_to(target)
        assert "is a link out of the folder out" in reason(FolderModel("A", made / "out"), name, 0)
    plain, _ = snapshot(tmp_path, "results")
    assert "is a link out of the folder out" in reason(FolderModel("A", plain / "out"), "wave", 0)


def test_a_folder_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    folder(tmp_path / "real", "wave.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert FolderModel("A", tmp_path / "link").generate(case(), 0) == tmp_path / "link" / "wave.mp4"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model A: .*nowhere is not a folder"):
        FolderModel("A", tmp_path / "nowhere")


names = st.text("abé_-.0 1", min_size=1, max_size=8).filter(lambda n: not n.startswith(".") and n.strip() == n)


@settings(max_examples=12)
@given(
    st.sets(st.tuples(names, st.integers(0, 12)), max_size=6),
    st.sampled_from(["{0}_seed{1}", "{0}/{1}", "{0}-seed{1}"]),
)
def test_every_file_is_found_missing_or_extra(
    tmp_path_factory: pytest.TempPathFactory, present: set[tuple[str, int]], pattern: str
) -> None:
    path = tmp_path_factory.mktemp("out")
    model = folder(path, *(pattern.format(*unit) + ".mp4" for unit in present))
    cases, seeds = [case(name) for name in sorted({name for name, _ in present})], range(7)
    match = model.match(cases, seeds)
    assert set(match.found) == {unit for unit in present if unit[1] in seeds}
    assert {(m.case, m.seed) for m in match.missing} == {(c.id, s) for c in cases for s in seeds} - present
    assert len(match.extra) == len(present) - len(match.found)
