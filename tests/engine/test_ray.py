"""The Ray engine on a cluster of two nodes on this machine: one result for each item, whoever dies."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from ipa_bench import harness, video
from ipa_bench.engine import ray as engine_ray
from ipa_bench.engine.ray import RayEngine
from ipa_bench.errors import UserError
from ipa_bench.models.specs import FolderSpec
from ipa_bench.suite import Suite
from ipa_bench.types import Case
from tests.engine import far

ray = pytest.importorskip("ray")

#: Ray leaves files and sockets of its own open when it ends
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]
#: no dashboard, and nobody who collects logs or starts more nodes
NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
HEAD = {**NODE, "include_log_monitor": False, "no_monitor": True}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of one node with one core."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Where other programs of this machine do not find it. Paths of sockets must be short.
        patch.setenv("RAY_TMPDIR", folder)
        # Workers import the functions of far.py.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
        # Workers step back for whatever else runs, the other tests among them: here they are waited for.
        patch.setenv("RAY_worker_niceness", "0")
        # On a busy machine workers begin late, which is worth a warning to users and none here.
        patch.setattr(engine_ray, "PATIENCE", 600.0)
        made = Cluster(initialize_head=True, head_node_args=HEAD)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def engine(cluster):
    """An engine that has found the cluster; those that are made while it is open use its connection."""
    cluster.add_node(**NODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        made = RayEngine()
    yield made
    made.close()


@pytest.fixture
def node(cluster, engine):
    """The second node of the cluster."""
    (there,) = cluster.worker_nodes or {cluster.add_node(**NODE)}
    return there


def processes(*nodes):
    """Worker processes of an engine on some nodes."""
    found = []
    for each in nodes:
        raylet = psutil.Process(each.all_processes["raylet"][0].process.pid)
        for process in raylet.children(recursive=True):
            try:
                if process.cmdline()[0].startswith("ray::_Worker"):
                    found.append(process)
            except (psutil.Error, IndexError):
                pass
    return found


# ---------------------------------------------------------------------------------------------------------------------
# the contract of every engine


def test_results_come_in_order_from_workers_that_started_once(engine, node, tmp_path):
    assert engine.share(100) == (2, 1)
    assert engine.share(1) == (1, 1)
    results = list(engine.imap(partial(far.meets, tmp_path), range(40), 2, far.start, ("ready",)))
    assert [square for square, _ in results] == [x * x for x in range(40)]
    assert all(started == ["ready"] for _, started in results)
    workers = {int(path.name) for path in tmp_path.iterdir()}
    assert len(workers - {os.getpid()}) == 2
    assert list(engine.imap(far.square, [], 2)) == []


def test_an_error_arrives_as_itself_and_in_its_turn(engine, node):
    results = engine.imap(far.fails, range(9), 2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match=r"^item 5 is bad \(mend it\)$"):
        next(results)


def test_a_worker_that_cannot_start_says_why(engine, node):
    with pytest.raises(UserError, match="the model file is missing"):
        list(engine.imap(far.square, range(4), 2, far.bad_start))


def test_a_node_with_other_versions_is_refused(engine, node, monkeypatch):
    monkeypatch.setattr(engine_ray, "PACKAGES", ("pytest",))  # here only: workers import the module anew
    with pytest.raises(UserError, match=r"a node of the Ray cluster has pytest not installed, this process \d"):
        list(engine.imap(far.square, range(4), 2))


def test_items_are_taken_as_they_are_needed_and_who_stops_early_does_not_wait(engine, cluster, node):
    taken = []

    def items():
        for x in range(1000):
            taken.append(x)
            yield x

    results = engine.imap(far.sleeps, items(), 2)
    assert next(results) == 0
    assert len(taken) <= 2 * engine_ray.AHEAD + 1
    workers = processes(cluster.head_node, node)
    assert len(workers) >= 1
    begin = time.monotonic()
    results.close()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert time.monotonic() - begin < 20


# ---------------------------------------------------------------------------------------------------------------------
# who dies


def test_an_item_whose_worker_died_is_worked_on_again(engine, node, tmp_path):
    results = list(engine.imap(partial(far.mark, tmp_path), range(12), 2))
    assert results == [(x, 2 if x == 3 else 1) for x in range(12)]


def test_an_item_that_kills_three_workers_is_named(engine, node, tmp_path):
    items = ["item one", "item two", "item three", "item four", "item five"]
    results = engine.imap(partial(far.deadly, tmp_path), items, 2)
    assert [next(results) for _ in range(3)] == items[:3]
    with pytest.raises(UserError, match="3 workers died while they had item four: "):
        next(results)
    assert len(list(tmp_path.iterdir())) == 3


# ---------------------------------------------------------------------------------------------------------------------
# many jobs

MODELS, VERSIONS, CASES = 10, 3, 2
#: of every kind, but of those without a network beyond the one that finds hands
METRICS = ("hand_quality", "hand_quality.motion", "hand.keypoint_error", "hand.jitter", "hand.ssim", "frame.psnr")


@pytest.fixture(scope="module", params=[7, pytest.param(51, marks=pytest.mark.slow)], ids=["140", "a thousand"])
def many(footage, cache_folder, tmp_path_factory, request):
    """A suite of 140 or 1,020 videos, which are 6 different ones of 12 frames in a mixed order, and their records.

    What is expected of a video is what one process says of the same bytes, which it is shown once.
    """
    root, seeds = tmp_path_factory.mktemp("many"), request.param
    (root / "clips").mkdir()
    cases = []
    for clip in sorted(footage.clips.iterdir())[-CASES:]:  # of two people
        images = [frame.image for frame in video.read_frames(clip)][:12]
        video.encode(images, root / "clips" / clip.name, 25, crf=12)
        cases.append(Case(clip.stem, root / "clips" / clip.name, root / "clips" / clip.name, identity=clip.stem[:4]))
        for version in range(VERSIONS):
            (root / f"v{version}").mkdir(exist_ok=True)
            video.encode(images, root / f"v{version}" / clip.name, 25, crf=20 + 9 * version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPA_BENCH_CACHE", str(cache_folder))
        distinct = [_model(root, f"v{version}") for version in range(VERSIONS)]
        once = harness.run(
            Suite("once", tuple(cases), tuple(distinct), metrics=METRICS), root / "one", jobs=1, sets=False
        )
    expected = {}
    for model in range(MODELS):
        for row, case in enumerate(cases):
            folder = root / f"m{model}" / case.id
            folder.mkdir(parents=True)
            for seed in range(seeds):
                version, file = (7 * seed + 2 * model + row) % VERSIONS, folder / f"seed{seed}.mp4"
                os.link(root / f"v{version}" / f"{case.id}.mp4", file)
                unit = (case.id, seed, f"m{model}")
                expected[unit] = _of_unit(once.records()[case.id, 0, f"v{version}"], unit, file)
    specs = tuple(_model(root, f"m{model}") for model in range(MODELS))
    return Suite("many", tuple(cases), specs, tuple(range(seeds)), metrics=METRICS), expected


def _model(root, name):
    return FolderSpec(name=name, kind="folder", path=root / name)


def _of_unit(record, unit, file):
    """What is known of a video, said of another unit that shows the same."""
    case, seed, model = unit
    scores = tuple(replace(score, case=case, seed=seed, model=model) for score in record.scores)
    return replace(record, case=case, seed=seed, model=model, video=str(file), seconds=None, scores=scores)


def known(store):
    """Everything in a store but how long it took."""
    return {unit: replace(record, seconds=None) for unit, record in store.records().items()}


def lines(folder):
    """How often each unit is on the disk."""
    text = "".join(shard.read_text() for shard in (folder / "scores").iterdir())
    return Counter((record["case"], record["seed"], record["model"]) for record in map(json.loads, text.splitlines()))


def test_many_jobs_with_a_killed_worker_and_a_killed_node(many, cluster, node, tmp_path, cache_folder, monkeypatch):
    """The worker from a fifth of the results on, the node with the worker on it from three fifths."""
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))
    suite, expected = many
    killed = {}

    def progress(stage, done, total):
        if stage != "score" or done == total:
            return
        if done >= total / 5 and "worker" not in killed:
            workers = processes(cluster.head_node, node)
            if len(workers) == 2:
                workers[0].kill()
                killed["worker"] = done
        elif done >= 3 * total / 5 and "worker" in killed and "node" not in killed and processes(node):
            cluster.remove_node(node, allow_graceful=False)
            killed["node"] = done

    engine = RayEngine()
    try:
        store = harness.run(suite, tmp_path / "run", engine=engine, sets=False, progress=progress)
    finally:
        engine.close()
    assert killed.keys() == {"worker", "node"}
    assert len(expected) == MODELS * len(suite.seeds) * CASES
    assert known(store) == expected
    assert lines(tmp_path / "run") == dict.fromkeys(expected, 1)
    assert any(score.value for record in expected.values() for score in record.scores)
    assert all(store.read_details(unit) is not None for unit in expected)


# ---------------------------------------------------------------------------------------------------------------------
# coming and going


def test_addresses_that_cannot_be_used_are_refused(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # the cluster of this file may be connected to
    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere:10001")
    with pytest.raises(UserError, match="is the address of a Ray Client server"):
        RayEngine()


_SCRIPT = """
import os, signal, time
from pathlib import Path
from ipa_bench.engine import ray

# a shell in the background starts programs that ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)

died = Path({died!r})

def work(seconds):
    if not seconds and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)

ray.PATIENCE = 600.0
engine = ray.RayEngine(jobs=2)
try:
    for _ in engine.imap(work, [0, 600, 600, 600], 2):
        print("running", flush=True)
finally:
    engine.close()
"""


def test_ctrl_c_leaves_nothing_behind_and_a_lost_worker_says_nothing(tmp_path):
    before = set(Path("/tmp").glob("ipa-ray-*"))
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT.format(died=str(tmp_path / "died"))],
        env={**os.environ, "RAY_ADDRESS": "local", "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = process.stdout.readline()
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    assert said + rest == "running\n"
    assert errors.startswith("Traceback")
    assert errors.endswith("KeyboardInterrupt\n")
    assert len(family) >= 4  # the store of the cluster, its node, and two workers
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    assert set(Path("/tmp").glob("ipa-ray-*")) == before
