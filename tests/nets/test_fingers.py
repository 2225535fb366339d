"""The head that ships: its size and hash, one answer a hand whatever is beside it, and files that are refused."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ipa_bench.errors import UserError
from ipa_bench.nets.embedded import FOLDER
from ipa_bench.nets.fingers import CHANNELS, FILE, GRID, FingerHead, load_fingers
from ipa_bench.observers.mediapipe import maps
from ipa_bench.weights.shipped import FINGERS_SHA256


def test_what_ships_is_small_and_is_what_its_hash_says():
    data = (FOLDER / FILE).read_bytes()
    assert len(data) <= 500_000
    assert hashlib.sha256(data).hexdigest() == FINGERS_SHA256
    with safe_open(FOLDER / FILE, "pt") as file:
        assert {name: list(file.get_tensor(name).shape) for name in ("mean", "spread")} == {
            "mean": [CHANNELS], "spread": [CHANNELS],
        }  # fmt: skip
        assert (file.get_tensor("spread") > 0).all()


def test_it_takes_the_maps_that_the_observer_gives():
    assert (maps.GRID, maps.CHANNELS) == (GRID, CHANNELS)


def test_a_hand_has_one_answer():
    head = load_fingers()
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (5, GRID, GRID, CHANNELS)).astype(np.float32))
    both = head(x)
    assert both.shape == (5, 2)
    torch.testing.assert_close(torch.cat([head(each[None]) for each in x]), both, atol=1e-4, rtol=1e-4)
    # a value that the net has never given counts no more than one at the limit
    x[0, 3, 4, 5] = head.mean[5] + 8 * head.spread[5]
    y = x.clone()
    y[0, 3, 4, 5] = 1e6
    torch.testing.assert_close(head(x), head(y))


def test_a_file_that_is_another_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        load_fingers(tmp_path)
    from safetensors.torch import save_file

    save_file(FingerHead().state_dict(), tmp_path / FILE)
    with pytest.raises(UserError, match="is not the file that this version ships"):
        load_fingers(tmp_path)
