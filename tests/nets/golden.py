"""The golden outputs of the backbones, and the networks with the weights that they belong to."""

import json
from pathlib import Path

import numpy as np
import pytest

from ipa_bench import weights
from ipa_bench.errors import UserError
from ipa_bench.nets.checkpoint import random_weights

FOLDER = Path(__file__).parents[1] / "references"
ABOUT = json.loads((FOLDER / "backbone_golden.json").read_text())


def golden(name):
    """One stored output, in float64."""
    with np.load(FOLDER / "backbone_golden.npz") as arrays:
        return arrays[name].astype(np.float64)


def golden_weights(module, name):
    """``module`` with the weights of the golden outputs."""
    random_weights(module, ABOUT["seed"])
    tensors = [tensor.double() for tensor in module.state_dict().values() if tensor.is_floating_point()]
    assert float(sum(tensor.square().sum() for tensor in tensors)) == pytest.approx(ABOUT["sum_of_squares"][name])
    return module


def off(values, expected):
    """Largest difference, relative to the largest expected value."""
    return float(np.abs(values.double().numpy() - expected).max() / np.abs(expected).max())


def published_file(name):
    """The verified path of published weights; the test is skipped where they are missing."""
    try:
        return weights.path(name)
    except UserError as error:
        if "is missing" not in error.problem and "cannot download" not in error.problem:
            raise  # a wrong file is a failure
        pytest.skip(str(error))


def frechet(one, other):
    """The distance of two sets of features [n, d]."""
    from ipa_bench.metrics.sets.frechet import frechet_distance

    return frechet_distance(np.asarray(one, np.float64), np.asarray(other, np.float64))
