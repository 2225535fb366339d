"""Worker processes: results in order, errors as themselves, few items at a time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError


def _square(x):
    time.sleep(0.02 * (x % 3))
    return x * x


def _fails(x):
    raise UserError(f"item {x} is bad", "mend it")


def _dies(x):
    os._exit(9)


def _bad_start():
    raise UserError("the model file is missing", "fetch it")


_SEEN = []


def _note(value):
    _SEEN.append(value)


def _noted(_):
    return list(_SEEN)


def test_results_come_in_order_on_any_number_of_processes():
    assert list(pool.imap(_square, range(12), 1)) == [x * x for x in range(12)]
    assert list(pool.imap(_square, range(12), 2)) == [x * x for x in range(12)]
    assert list(pool.imap(_square, [], 2)) == []


def test_every_worker_is_started():
    assert all(noted == ["ready"] for noted in pool.imap(_noted, range(4), 2, _note, ("ready",)))


def test_errors_arrive_as_themselves():
    with pytest.raises(UserError, match=r"item 0 is bad \(mend it\)"):
        list(pool.imap(_fails, range(4), 2))


def test_a_worker_that_cannot_start_says_why():
    with pytest.raises(UserError, match="the model file is missing"):
        list(pool.imap(_square, range(4), 2, _bad_start))


def test_a_killed_worker_is_a_clear_error():
    with pytest.raises(UserError, match="a worker process was killed"):
        list(pool.imap(_dies, range(4), 2))


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for x in range(100):
            taken.append(x)
            yield x

    results = pool.imap(_square, items(), 2)
    next(results)
    assert len(taken) < 12
    results.close()


def _sleeps(x):
    time.sleep(x)
    return x


def test_who_stops_early_does_not_wait_for_the_others():
    begin = time.monotonic()
    results = pool.imap(_sleeps, [0.1, 60, 60, 60], 2)
    next(results)
    results.close()
    assert time.monotonic() - begin < 20


def test_cores_are_shared():
    assert pool.share_cores(4, 1) == (1, 4)
    assert pool.share_cores(4, 3) == (3, 2)  # processes that end early leave their cores to the others
    assert pool.share_cores(64, 64) == (64, 2)
    assert pool.share_cores(4, 100) == (4, 1)
    assert pool.share_cores(2, 0) == (1, 2)
    assert pool.cores() >= 1


PROGRAM = """
from pathlib import Path
from ipa_bench import files
from ipa_bench.engine import processes

if __name__ == "__main__":
    print(processes.safe(), len(list(processes.imap(files.sha256_of, [Path(__file__)] * 2, 2))))
"""


def test_a_package_of_the_same_name_in_the_working_directory_is_not_imported(tmp_path):
    here = tmp_path / "here"
    for package in ("ipa_bench", "trainers"):
        (here / package).mkdir(parents=True)
        (here / package / "__init__.py").write_text("open('imported', 'a').close()")
    (tmp_path / "program").mkdir()
    program = tmp_path / "program" / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("PYTHONSAFEPATH", None)
    run = subprocess.run([sys.executable, program], cwd=here, env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == "('-P',) 2", run.stderr
    assert not (here / "imported").exists()
    shown = subprocess.run([sys.executable, "-c", "import ipa_bench"], cwd=here, env=environment, check=True)
    assert shown.returncode == 0
    assert (here / "imported").exists()  # the folder would have done it
