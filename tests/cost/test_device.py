"""What the meter says of the machine against work of known size, and against the machine's own counters."""

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from ipa_bench.cost import Meter, device
from ipa_bench.cost.amount import NO_TORCH, UNUSED, Amount, added, larger
from ipa_bench.cost.device import INTERVAL, HostMemory, matmul_peak
from ipa_bench.engine import processes as pool
from tests.cost.looking import MB, hold, wait_for_looks
from tests.models.wan.counting import count_flops

ROOT = Path(__file__).parents[2]


@pytest.fixture
def restless(monkeypatch):
    """Looks rest little: a search of a busy machine is otherwise followed by many seconds without one."""
    monkeypatch.setattr(device, "_REST", 5)
    monkeypatch.setattr(device, "_SEARCH_REST", 5)


def test_peaks_and_sums_leave_out_what_used_no_gpu_and_nothing_else():
    one, two, none, unknown = Amount(1.0), Amount(2.0), Amount(reason=UNUSED), Amount(reason="failed")
    for rule, known in ((larger, two), (added, Amount(3.0))):
        assert rule(one, two) == rule(two, one) == known
        assert rule(one, none) == rule(none, one) == one
        assert rule(one, unknown) == rule(unknown, one) == rule(none, unknown) == rule(unknown, none) == unknown
        assert rule(none, none) == none


#: in a process of its own: what other tests have left behind would come and go while this one looks
PHASES = """
import json
import numpy as np
from ipa_bench.cost import Meter, device
from tests.cost.looking import MB, wait_for_looks

device._REST = device._SEARCH_REST = 5
meter = Meter()
with meter.phase("generate"):
    wait_for_looks(meter.host)  # everything is imported by now
with meter.phase("select"):
    wait_for_looks(meter.host)
with meter.phase("encode"):
    array = np.ones(200 * MB, np.uint8)
    wait_for_looks(meter.host)
    del array
with meter.phase("observe"):
    wait_for_looks(meter.host)
print(json.dumps([meter.cost().phase(name).host.value for name in ("select", "encode", "observe")]))
"""


def test_host_memory_grows_by_what_is_allocated_and_is_of_its_phase_alone():
    ended = subprocess.run([sys.executable, "-c", PHASES], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr
    small, large, after = json.loads(ended.stdout)
    assert large - small == pytest.approx(200 * MB, rel=0.05)
    assert large - after == pytest.approx(200 * MB, rel=0.05)


def test_a_short_peak_that_is_the_highest_of_the_process_is_seen():
    memory = HostMemory()  # not started: no look at all
    memory.mark()
    before = memory.peak()
    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    array = np.ones(high - before + 300 * MB, np.uint8)
    del array
    assert memory.looks == 0
    assert memory.peak() - high == pytest.approx(300 * MB, rel=0.1)
    memory.mark()
    assert memory.peak() < before + 50 * MB


def test_memory_of_workers_counts_and_what_they_share_counts_once(tmp_path, restless):
    meter, found = Meter(), {}

    def look():
        deadline = time.monotonic() + 100
        while len(list(tmp_path.glob("*.here"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        wait_for_looks(meter.host)
        memory = [child.memory_info() for child in psutil.Process().children(recursive=True)]
        found["shared"] = sum(m.shared for m in memory)
        found["whole"] = psutil.Process().memory_info().rss + sum(m.rss for m in memory)
        (tmp_path / "go").touch()

    with meter.phase("observe"):
        alone = psutil.Process().memory_info().rss
        looking = threading.Thread(target=look)
        looking.start()
        assert list(pool.imap(hold, [tmp_path] * 2, 2)) == [1, 1]
        looking.join()
    peak = meter.cost().phase("observe").host.value
    assert peak - alone > 290 * MB  # two arrays in two processes
    assert found["shared"] > 10 * MB  # libraries, at least
    assert peak == pytest.approx(found["whole"] - found["shared"], rel=0.05)


def test_a_process_that_was_started_counts_and_one_that_ended_does_not(restless):
    meter = Meter()
    code = f"b = bytearray({300 * MB}); b[::4096] = b'1' * len(b[::4096]); print(1, flush=True); input()"
    with meter.phase("select"):
        wait_for_looks(meter.host)  # workers of other tests may be there
    with meter.phase("generate"):
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline()
        wait_for_looks(meter.host)
        child.communicate("\n")
    with meter.phase("observe"):
        wait_for_looks(meter.host)
    before, during, after = (meter.cost().phase(name).host.value for name in ("select", "generate", "observe"))
    assert during - before == pytest.approx(300 * MB, rel=0.1)
    assert during - after == pytest.approx(300 * MB, rel=0.1)


def test_looking_takes_little_and_counting_looks_at_nothing():
    """The structure behind the overhead: looks are bounded by time, not by calls, and each is paid with a rest."""
    meter = Meter()
    with meter.phase("observe") as phase:
        begin = time.monotonic()
        for _ in range(20_000):
            phase.add(1, tokens=10, video_seconds=0.1, flops=5)
        wait_for_looks(meter.host, 5)
        elapsed = time.monotonic() - begin
    assert meter.host.looks <= elapsed / INTERVAL + 1
    # What a look or a search took is known when it is done: the last of each may be without its rest.
    assert meter.host.busy <= 0.003 * elapsed + meter.host.busy / meter.host.searches
    assert meter.cost().phase("observe").flops == Amount(100_000)


def test_the_looking_thread_ends_after_the_last_phase():
    memory = HostMemory(interval=0.01)
    memory.start()
    thread = memory._thread
    memory.stop()
    thread.join(60)
    assert not thread.is_alive()
    memory.start()
    wait_for_looks(memory)
    memory.stop()


def chain(count, side, dtype=torch.float32, device="cpu"):
    """Products of square matrices, one after the other."""
    x = torch.full((side, side), 1.0 / side, dtype=dtype, device=device)
    y = x
    for _ in range(count):
        y = x @ y
    return y


def test_flops_of_a_chain_are_2mnk_and_a_share_of_the_measured_peak():
    meter = Meter()
    counted = count_flops(lambda: chain(10, 512))
    assert counted.flops == Amount(10 * 2 * 512**3)
    with meter.phase("evaluate", unit="chain", dtype="fp32") as phase:
        begin = time.perf_counter()
        for _ in range(5):
            chain(10, 512)
            phase.add(1, flops=counted.flops)
        seconds = time.perf_counter() - begin
    cost, peak = meter.cost().phase("evaluate"), matmul_peak("fp32").value
    assert cost.flops.value == 5 * counted.flops.value
    assert cost.flops_per_second.value == pytest.approx(cost.flops.value / seconds, rel=0.05)
    assert cost.peak_share.value == pytest.approx(cost.flops.value / cost.seconds / peak)
    assert 0.01 < cost.peak_share.value < 1.2
    assert list(meter.cost().peaks.values()) == [peak]


def test_the_peak_is_of_the_order_that_products_reach_here():
    peak = matmul_peak("fp32")
    a, b = torch.ones(512, 512), torch.ones(512, 512)
    out, best = torch.empty(512, 512), float("inf")
    for _ in range(50):
        begin = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - begin)
    # The order, for the unit: other work may run in either moment.
    assert peak.value > 0.1 * 2 * 512**3 / best
    assert peak.value < 1e14  # no processor does that: the unit is FLOP/s


def test_the_peak_is_measured_once_and_draws_no_random_numbers():
    matmul_peak("fp32")
    torch.manual_seed(3)
    state = torch.get_rng_state()
    begin = time.thread_time()
    assert matmul_peak("fp32") is matmul_peak("fp32")
    assert time.thread_time() - begin < 0.01
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert matmul_peak("fp32") is not None  # another number of threads is another machine
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="fp32, bf16, fp16"):
        matmul_peak("int8")


def test_a_process_without_torch_is_measured():
    code = (
        "import sys; from ipa_bench.cost import Meter; m = Meter()\n"
        "with m.phase('select', dtype='fp32') as p: p.add(2)\n"
        "c = m.cost().phase('select')\n"
        "print(c.items.value, c.possible.reason, c.energy.reason, c.host.value, 'torch' in sys.modules, sep='|')"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    items, possible, energy, host, torch_loaded = said.strip().split("|")
    assert (items, possible, energy, torch_loaded) == ("2", NO_TORCH, UNUSED, "False")
    assert 5 * MB < float(host) < 300 * MB


def test_a_phase_that_loads_torch_has_a_peak():
    code = (
        "from ipa_bench.cost import Meter; m = Meter()\n"
        "with m.phase('select', dtype='fp32') as p:\n"
        "    import torch; torch.set_num_threads(1); p.add(1, flops=10)\n"
        "c = m.cost().phase('select'); print(c.peak_share.value, c.possible.value, c.seconds)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    share, possible, seconds = map(float, said.split())
    assert 0 < share < 1
    assert possible > 1e6 * seconds


@pytest.mark.gpu
def test_device_memory_is_that_of_torch():
    torch.ones(1, device="cuda")
    meter = Meter()
    with meter.phase("train"):
        a = torch.ones(500 * MB // 4, device="cuda")
        b = a * 2
        del b
        expected = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    with meter.phase("evaluate"):
        pass
    with meter.phase("train"):
        pass
    train, after = meter.cost().phase("train"), meter.cost().phase("evaluate")
    assert train.device_allocated.value == pytest.approx(expected[0], rel=0.05)
    assert train.device_reserved.value == pytest.approx(expected[1], rel=0.05)
    assert train.device_allocated.value == pytest.approx(1000 * MB, rel=0.05)
    assert after.device_allocated.value == pytest.approx(500 * MB, rel=0.05)
    del a


@pytest.mark.gpu
def test_work_on_the_device_is_waited_for_and_is_a_share_of_its_peak():
    chain(1, 4096, torch.bfloat16, "cuda")
    torch.cuda.synchronize()
    meter = Meter()
    with meter.phase("evaluate", dtype="bf16") as phase:
        chain(400, 4096, torch.bfloat16, "cuda")  # returns before it is done
        phase.add(1, flops=400 * 2 * 4096**3)
    share = meter.cost().phase("evaluate").peak_share.value
    assert 0.5 < share < 1.1


@pytest.mark.gpu
def test_energy_is_that_of_the_counter():
    nvml = pytest.importorskip("pynvml")
    nvml.nvmlInit()
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    torch.ones(1, device="cuda")
    meter = Meter()
    before = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    with meter.phase("evaluate"):
        chain(3000, 4096, torch.bfloat16, "cuda")
    after = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    joules = meter.cost().phase("evaluate").energy.value
    assert joules == pytest.approx((after - before) / 1000, rel=0.1)
    assert joules > 10
