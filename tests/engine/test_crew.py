"""Which item is with which worker, whoever dies and whenever, on an acted cluster; ``test_ray.py`` has a real one."""

import random
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.engine import ray as engine_ray
from ipa_bench.engine.ray import AHEAD, MAX_DEATHS, _Crew
from ipa_bench.errors import UserError


class RayError(Exception):
    """A worker, a node or an answer is gone."""


class RayTaskError(RayError):
    """What the function raised."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Acted:
    """What the engine asks of Ray. Calls are answered in any order; workers die as they are told to."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, seed, deaths=None, false_starts=0):
        self.rng = random.Random(seed)
        #: item -> workers that will still die of it; begins that will still fail
        self.deaths, self.false_starts = Counter(deaths or {}), false_starts
        self.answers, self.alive, self.with_worker = {}, set(), Counter()
        self.most, self.busy = 0, Counter()

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda orders: self._hire(kind(orders))))

    def _hire(self, worker):
        actor = SimpleNamespace(worker=worker, name=object())
        self.alive.add(actor.name)
        self.most = max(self.most, len(self.alive))
        actor.begin = SimpleNamespace(remote=lambda: self._call(lambda: self._begin(actor)))
        work = SimpleNamespace(remote=lambda item: self._work(actor, item))
        actor.work = SimpleNamespace(options=lambda **_: work)
        return actor

    def _begin(self, actor):
        if self.false_starts:
            self.false_starts -= 1
            raise RayError("it does not start")
        actor.worker.begin()

    def _work(self, actor, item):
        assert actor.name in self.alive
        self.busy[actor.name] += 1
        self.with_worker[item] += 1
        assert self.busy[actor.name] == 1, "a worker has one item at a time"
        assert self.with_worker[item] == 1, "an item is with one worker at a time"

        def answer():
            self.busy[actor.name] -= 1
            self.with_worker[item] -= 1
            if self.deaths[item]:
                self.deaths[item] -= 1
                raise RayError("the worker died")
            return actor.worker.work(item)

        return self._call(answer)

    def _call(self, answer):
        call = object()
        self.answers[call] = answer
        return call

    def wait(self, calls, timeout=None):
        if timeout == 0 and self.rng.random() < 0.5:
            return [], [*calls]
        first = self.rng.choice([*calls])
        return [first], [call for call in calls if call is not first]

    def get(self, call):
        try:
            return self.answers.pop(call)()
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from error

    def kill(self, actor, *, no_restart):
        if no_restart:
            self.alive.discard(actor.name)

    def is_initialized(self):
        return True


def run(acted, items, size, function=lambda item: item * item, start=None):
    crew = _Crew(acted, function, items, size, start, ())
    try:
        yield from crew.results()
    finally:
        crew.dismiss()
        assert not acted.alive


@given(
    st.integers(0, 25), st.integers(1, 4), st.integers(0, 2**32),
    st.dictionaries(st.integers(0, 24), st.integers(1, MAX_DEATHS - 1), max_size=6), st.integers(0, MAX_DEATHS - 1),
)  # fmt: skip
def test_every_item_has_one_result_in_its_turn_whoever_dies(count, size, seed, deaths, false_starts):
    acted, taken, done = Acted(seed, deaths, false_starts), [], Counter()

    def items():
        for item in range(count):
            taken.append(item)
            yield item

    def function(item):
        done[item] += 1
        return item * item

    got = []
    for result in run(acted, items(), size, function):
        got.append(result)
        assert len(taken) <= len(got) + AHEAD * size
    assert got == [item * item for item in range(count)]
    assert done == Counter(range(count))
    assert acted.most <= size


@given(st.integers(0, 20), st.integers(1, 3), st.integers(0, 2**32))
def test_an_item_that_workers_die_of_ends_the_run_in_its_turn(deadly, size, seed):
    acted, got = Acted(seed, {deadly: MAX_DEATHS}), []
    with pytest.raises(UserError, match=f"3 workers died while they had {deadly}: the worker died"):
        got.extend(run(acted, range(21), size))
    assert got == [item * item for item in range(deadly)]


@given(st.integers(0, 20), st.integers(1, 3), st.integers(0, 2**32))
def test_what_the_function_raises_arrives_as_itself_in_its_turn(bad, size, seed):
    def function(item):
        if item >= bad:
            raise ValueError(f"item {item}")
        return item

    got = []
    with pytest.raises(ValueError, match=rf"^item {bad}$"):
        got.extend(run(Acted(seed, {bad: 2}), range(21), size, function))
    assert got == list(range(bad))


@pytest.mark.parametrize("size", [1, 3])
def test_workers_that_never_begin_are_given_up(size):
    acted = Acted(0, false_starts=1000)
    with pytest.raises(UserError, match="workers of the Ray cluster do not start: it does not start"):
        list(run(acted, range(5), size))
    assert 1000 - acted.false_starts == MAX_DEATHS * size


def test_what_a_worker_needs_to_begin_is_said(monkeypatch):
    def start():
        raise UserError("the model file is missing", "fetch it")

    with pytest.raises(UserError, match="the model file is missing"):
        list(run(Acted(0), range(5), 2, start=start))
    monkeypatch.setattr(engine_ray, "_versions", iter([{"numpy": "1"}, {"numpy": "2"}]).__next__)
    with pytest.raises(UserError, match="a node of the Ray cluster has numpy 2, this process 1"):
        list(run(Acted(0), range(5), 1))


def test_who_waits_for_a_core_is_told():
    acted = Acted(0)
    waits = iter([True])
    acted.wait = lambda calls, timeout=None: ([], calls) if next(waits, False) else Acted.wait(acted, calls, timeout)
    with pytest.warns(RuntimeWarning, match="no core of the Ray cluster was free for 60 s"):
        assert list(run(acted, range(3), 2)) == [0, 1, 4]
