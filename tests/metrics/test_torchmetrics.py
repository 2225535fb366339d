"""The torchmetrics adapter, for every metric of the table."""

import pickle

import pytest
import torch

from ipa_bench.errors import UserError
from ipa_bench.metrics import METRICS, QUALITY
from ipa_bench.metrics.pairing import pair_hands
from tests.hands import made_up, moved, observed, without


def as_torchmetric(name):
    """Imported when it is needed: torchmetrics takes seconds, and every process that tests imports this file."""
    from ipa_bench.metrics import torchmetrics

    return torchmetrics.as_torchmetric(name)


def evidence(generated, driving):
    pair = pair_hands(generated, driving)
    return observed(generated, pair, pair)


@pytest.mark.parametrize("name", [m.info.id for m in METRICS])
def test_the_module_gives_the_mean_of_the_function(name):
    driving = made_up()
    videos = [evidence(moved(driving, offset), driving) for offset in (0.0, 5.0, 15.0)]
    metric = next(m for m in METRICS if m.info.id == name)
    values = [v for e in videos if (v := metric.measure(e).value) is not None]
    module = as_torchmetric(name)
    for item in videos:
        module.update(item)
    assert int(module.unscored) == len(videos) - len(values)
    assert module.higher_is_better is (metric.info.better == "higher")
    if values:
        assert float(module.compute()) == pytest.approx(sum(values) / len(values))
    else:
        assert torch.isnan(module.compute())


def test_states_merge_reset_and_pickle():
    driving = made_up()
    one, two, both = (as_torchmetric("hand.keypoint_error") for _ in range(3))
    one.update(evidence(moved(driving, 3.0), driving))
    two.update(evidence(moved(driving, 9.0), driving))
    two.update(evidence(driving, without(driving, slice(None))))
    both.update(evidence(moved(driving, 3.0), driving))
    both.update(evidence(moved(driving, 9.0), driving))
    one.merge_state(two)
    assert float(one.compute()) == pytest.approx(float(both.compute()))
    assert int(one.unscored) == 1
    assert float(pickle.loads(pickle.dumps(both)).compute()) == float(both.compute())
    both.reset()
    assert int(both.scored) == 0


@pytest.mark.parametrize("metric", ["hand_quality", "hand_quality@4", QUALITY])
def test_the_composite_is_a_module_too(metric):
    module = as_torchmetric(metric)
    module.update(evidence(made_up(), made_up()))
    assert float(module.compute()) == pytest.approx(1.0)


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'hand\.keypoint_error'"):
        as_torchmetric("hand.keypoint_eror")


def test_ids_are_unique_and_versioned():
    ids = [m.info.id for m in METRICS]
    assert len(set(ids)) == len(ids)
    assert all(i.partition("@")[2].isdigit() for i in ids)
    assert all(m.info.unit and m.info.source and m.info.blind_spot for m in METRICS)
