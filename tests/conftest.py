"""Fixtures that more than one test file uses."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import cache_from_source, find_spec
from pathlib import Path

# Before torch and LiteRT are imported: one thread, here and in processes that are started. Quicker for so small models,
# the same bits everywhere, and tests that run side by side do not take each other's cores.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from filelock import FileLock
from hypothesis import settings

from ipa_bench import video
from ipa_bench.engine import processes
from tests import shapes
from tests.forked import Server

# While files are imported nothing can go: looking for it again and again is an eighth of what torch and diffusers take.
gc.disable()

# Compiled files are kept whatever the environment says: several processes import the same, and start others that do.
sys.dont_write_bytecode = False

# Nobody pulls the plug here: what a killed process has written is in the system's memory, and waiting for the disk,
# thousands of times, is all that syncing would do. Processes that begin with nothing do sync.
os.fsync = lambda _: None

# How long an example takes is not what is tested: machines are busy. --hypothesis-profile=thorough looks further.
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.register_profile("few", deadline=None, max_examples=12)
settings.load_profile("few")


#: files that take longest: they begin first where tests run side by side, so that no process is left alone with one
LONG = (
    "engine/test_ray.py",
    "cli/test_app.py",
    "embedded/test_run.py",
    "trainers/align/test_ablation.py",
    "cli/test_cost.py",
    "trainers/align/test_stages.py",
    "trainers/test_run_processes.py",
    "harness/test_loop.py",
    "trainers/test_run.py",
    "cli/test_train.py",
    "harness/test_generate.py",
    "behaviour/test_old_folders.py",
    "report/test_page.py",
    "embedded/test_alignment_cases.py",
    "validate/test_judge.py",
    "benchmarks/test_tiktok.py",
    "report/test_player.py",
    "observers/test_truth.py",
    "models/wan/test_flops.py",
    "metrics/sets/test_coverage.py",
    "observers/test_perceptual_clips.py",
    "trainers/embedded/test_pretrain.py",
    "harness/test_sets.py",
    "metrics/sets/test_frechet.py",
    "trainers/cost_sheet/test_recipes.py",
    "cli/test_embedded.py",
    "observers/features/test_extract_processes.py",
    "cost/test_device.py",
    "weights/test_obtain.py",
    "trainers/test_lora.py",
    "report/test_html.py",
    "trainers/reward_model/test_run.py",
    "observers/test_parity.py",
    "observers/test_judge.py",
    "validate/test_people.py",
    "test_scorer.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: now and then a test waits, for a process that begins or for a clock."""
    return processes.cores() + 1


#: what every process that tests imports, in this order; the last has its compiled file once all have
IMPORTED = ("torch", "scipy.stats", "diffusers.utils", "hypothesis.strategies", "peft")


def _compile() -> None:
    """Where nothing is compiled yet, let one of the processes do it that would all begin with the same files."""
    last = find_spec(IMPORTED[-1])
    if last is None or last.origin is None:
        return
    compiled = Path(cache_from_source(last.origin))
    with Path(__file__).open() as file:
        while not compiled.exists():
            fcntl.flock(file, fcntl.LOCK_EX)
            if not compiled.exists():
                for name in IMPORTED:
                    with suppress(Exception):  # who needs it tells
                        import_module(name)
                return


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Share the work of compiling test files: each process begins elsewhere, and finds there what others compiled."""
    about = getattr(session.config, "workerinput", {"workerid": "gw0", "workercount": 1})
    count, mine = about["workercount"], int(about["workerid"].removeprefix("gw"))
    if count > 1:
        _compile()
    folders = [path for name in session.config.args if (path := Path(name)).is_dir()] if count > 1 else []
    root = Path(__file__).parents[1]
    for file in sorted(file for folder in folders for file in folder.resolve().rglob("test_*.py"))[mine::count]:
        with suppress(pytest.skip.Exception, Exception):  # pytest imports it again, and tells
            import_module(".".join(file.relative_to(root).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, in the order above."""
    folder = Path(__file__).parent
    place = {folder / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check shapes at the first calls of every test, whatever the tests before it called; a GPU's wait for a GPU."""
    shapes.thrifty()
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no GPU")


#: real footage that is committed, see the README there
MEDIA = Path(__file__).parent / "data" / "footage"


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real footage that comes with the tests: ``hand.mp4``, ``gesture.mp4``, ``thumb_up.jpg``."""
    return MEDIA


@pytest.fixture(scope="session")
def whole_media() -> Path:
    """The files that the footage was cut from: $IPA_BENCH_MEDIA, else ../shared/media beside the repository."""
    folder = Path(os.environ.get("IPA_BENCH_MEDIA") or Path(__file__).parents[2] / "shared" / "media")
    if not folder.is_dir():
        pytest.skip(f"no real footage at {folder}; set IPA_BENCH_MEDIA to a folder that has it")
    return folder


@dataclass(frozen=True)
class Footage:
    """Short real driving clips, and two systems' videos of them: ``fine`` compressed a little, ``poor`` a lot.

    ``longer`` holds the clips with half as many frames more, for what asks for a second of a hand.
    """

    clips: Path
    fine: Path
    poor: Path
    longer: Path


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one of the processes that test side by side makes for all of them."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / f"{name}.lock"):
        if not (base / name).exists():
            (base / f"{name}.part").mkdir()
            make(base / f"{name}.part")
            (base / f"{name}.part").rename(base / name)
    return base / name


@pytest.fixture(scope="session")
def footage(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """Three clips of 16 frames at 320 pixels, cut from the real footage, of two identities. They are not written to."""
    folders = ("clips", "fine", "poor", "longer")

    def make(root: Path) -> None:
        cuts = {"anna__near": ("hand.mp4", 0), "anna__wide": ("hand.mp4", 24), "bert__wave": ("gesture.mp4", 5)}
        for folder in folders:
            (root / folder).mkdir()
        for name, (source, start) in cuts.items():
            images = [f.image for i, f in enumerate(video.read_frames(media / source)) if start <= i < start + 24]
            images = [video.resize(image, (320, 180)) for image in images]
            for folder, crf in zip(folders, (12, 22, 42, 12), strict=True):
                shown = images if folder == "longer" else images[:16]
                video.encode(shown, root / folder / f"{name}.mp4", 25, crf=crf)

    root = once(tmp_path_factory, "footage", make)
    return Footage(*(root / folder for folder in folders))


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of observations for the whole test session, apart from the user's own; model files are shared with it."""
    from ipa_bench import weights

    def make(folder: Path) -> None:
        for name in ("palm_detection_full", "hand_landmark_full", "pose_detection", "pose_landmark_full"):
            shutil.copy(weights.path(name), folder)

    return once(tmp_path_factory, "cache", make)


Tool = Callable[..., "subprocess.CompletedProcess[str]"]


#: the one of this process, where its tests use one
_servers: list[Server] = []


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fork what forks processes, before tests run that change this one."""
    if session.config.option.collectonly:
        return
    gc.freeze()  # what was imported stays: it need not be looked through for what can go, a third of a second each time
    gc.enable()
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "server" in used:
        _servers.append(Server(training="training_server" in used))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """What forks processes that score and report: see :mod:`tests.forked`."""
    (found,) = _servers
    yield found
    found.close()


@pytest.fixture(scope="session")
def training_server(server: Server) -> Server:
    """The same, which has imported what makes clips and trains too."""
    return server


def _variables(cache: Path, more: dict[str, str] | None) -> dict[str, str]:
    return {**os.environ, "IPA_BENCH_CACHE": str(cache), "COLUMNS": "120", **(more or {})}


def _tool(server: Server, cache: Path, folder: Path) -> Tool:
    def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return server.run(arguments, folder, _variables(cache, environment), folder.with_name(f"{folder.name}.said"))

    return run


@pytest.fixture
def tool(server: Server, cache_folder: Path, tmp_path: Path) -> Tool:
    """Run ``ipa-bench`` as a process in an empty folder, forked by ``server``; ``environment`` adds variables."""
    return _tool(server, cache_folder, tmp_path)


@pytest.fixture
def training_tool(training_server: Server, cache_folder: Path, tmp_path: Path) -> Tool:
    """The same, for verbs that make clips or train."""
    return _tool(training_server, cache_folder, tmp_path)


@pytest.fixture
def started_tool(cache_folder: Path, tmp_path: Path) -> Tool:
    """The same as a process that begins with nothing imported, as a user's does."""

    def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ipa_bench", *(str(a) for a in arguments)]
        variables = _variables(cache_folder, environment)
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=900)

    return run
