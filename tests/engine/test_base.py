"""Engines that need nothing installed: worker processes, and what is said where Ray is not there."""

import subprocess
import sys

import pytest

from ipa_bench import engine
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError


def _double(x):
    return 2 * x


def test_processes_are_the_pool():
    with engine.opened("processes", 2) as workers:
        assert workers.share(100) == pool.share_cores(2, 100) == (2, 1)
        assert workers.share(1) == (1, 2)
        assert list(workers.imap(_double, range(9), 2)) == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    with engine.opened("processes") as workers:
        assert workers.share(10**6)[0] == pool.cores()


def test_an_engine_that_is_open_is_used_and_stays_open():
    mine = engine.Processes(3)
    with engine.opened(mine) as workers:
        assert workers is mine


def test_an_unknown_engine_is_refused():
    with pytest.raises(UserError, match=r"no engine dask \(the engines are processes and ray\)"), engine.opened("dask"):
        pass


def test_without_ray_the_extra_is_named():
    code = (
        "import sys\n"
        "sys.modules['ray'] = None\n"  # as where it is not installed
        "from ipa_bench import engine\n"
        "from ipa_bench.errors import UserError\n"
        "try:\n"
        "    with engine.opened('ray'):\n"
        "        pass\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "the ray engine needs Ray, which is not installed (pip install 'ipa-bench[ray]')\n"


def test_ray_is_not_imported_by_those_who_do_not_ask_for_it():
    code = "import sys\nfrom ipa_bench import harness\nprint('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
