"""An id says everything that moves a value, and two that differ are not compared."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.observers.features.definition import DISCO_POOL, FeatureDefinition, check_comparable, differences
from ipa_bench.observers.features.policies import POLICIES

SHA = "0123456789abcdef" * 4
FVD = FeatureDefinition("styleganv", 16, 16, "i3d-k400", SHA)
FID_VID = FeatureDefinition("disco", 16, 16, "r3d50-k400", "f" * 64, aggregation="segments")


@dataclass(frozen=True)
class Shape:
    """What a definition asks of a network: no weights are needed for that."""

    name: str = "i3d-k400"
    variant: str = ""
    sha256: str = SHA
    dtype: str = "fp32"
    size: int = 224
    scale: str = "symmetric"
    min_frames: int = 9
    dimension: int = 400

    def features(self, batch):
        raise NotImplementedError


def test_ids_are_stable():
    # stored results carry these strings: a change here orphans them
    assert FVD.id == "i3d-k400/sha:01234567|styleganv@1|T16s16|windows|fp32|ddof1"
    assert FID_VID.id == "r3d50-k400/sha:ffffffff|disco-legacy@1|T16s16|segments|fp32|ddof1"
    disco = replace(FVD, policy="disco", stride=1, variant=DISCO_POOL, dtype="bf16", ddof=0)
    assert disco.id == "i3d-k400+avgpool177/sha:01234567|disco-legacy@1|T16s1|windows|bf16|ddof0"


def test_an_alias_is_the_same_definition():
    assert replace(FVD, policy="disco") == replace(FVD, policy="disco-legacy")


definitions = st.builds(
    FeatureDefinition,
    policy=st.sampled_from(list(POLICIES)),
    length=st.integers(1, 300),
    stride=st.integers(1, 300),
    backbone=st.sampled_from(["i3d-k400", "r3d50-k400"]),
    weights=st.integers(0, 3).map(lambda n: f"{n:08x}" + SHA[8:]),
    variant=st.sampled_from(["", DISCO_POOL]),
    dtype=st.sampled_from(["fp32", "bf16"]),
    ddof=st.sampled_from([0, 1]),
)


@given(definitions, definitions)
def test_ids_are_equal_where_definitions_are(one, other):
    assert (one.id == other.id) == (one == other)
    assert bool(differences(one.id, other.id)) == (one != other)


@given(definitions, definitions)
def test_a_cache_key_forgets_ddof_alone(one, other):
    assert (one.key == other.key) == (replace(one, ddof=1) == replace(other, ddof=1))


def test_a_cache_key_has_the_whole_hash():
    other = replace(FVD, weights=SHA[:-1] + "0")
    assert other.id == FVD.id
    assert other.key != FVD.key


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"policy": "tf"}, "preprocessing: styleganv@1, tf@1"),
        ({"length": 32}, "windows: T16s16, T32s16"),
        ({"stride": 1}, "windows: T16s16, T16s1"),
        ({"backbone": "i3d-ssv2"}, "network: i3d-k400, i3d-ssv2"),
        ({"variant": DISCO_POOL}, "network: i3d-k400, i3d-k400+avgpool177"),
        ({"weights": "e" * 64}, "weights: sha:01234567, sha:eeeeeeee"),
        ({"dtype": "bf16"}, "precision: fp32, bf16"),
        ({"aggregation": "segments"}, "sample: windows, segments"),
        ({"ddof": 0}, "covariance: ddof1, ddof0"),
    ],
)
def test_each_part_is_named_alone(change, part):
    other = replace(FVD, **change).id
    assert differences(FVD.id, other) == [part]
    with pytest.raises(UserError, match="features with different ids are not compared") as caught:
        check_comparable(FVD.id, other)
    assert part in caught.value.problem
    assert caught.value.fix


def test_all_differing_parts_are_listed():
    other = FeatureDefinition("clean", 32, 1, "r3d50", "e" * 64, DISCO_POOL, "bf16", ddof=0)
    found = differences(FVD.id, other.id)
    assert [part.split(":")[0] for part in found] == [
        "network",
        "weights",
        "preprocessing",
        "windows",
        "precision",
        "covariance",
    ]


def test_equal_ids_are_comparable():
    check_comparable(FVD.id, replace(FVD).id)


@pytest.mark.parametrize("text", ["", "fvd", "i3d/sha:1", "i3d|styleganv@1|T16s16|windows|fp32|ddof1", FVD.id + "|x"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(UserError, match="is not the id of a feature definition"):
        differences(FVD.id, text)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"policy": "google"}, "no preprocessing policy called 'google'"),
        ({"length": 0}, "windows of 0 frames"),
        ({"stride": 0}, "every 0"),
        ({"aggregation": "mean"}, "no aggregation called 'mean'"),
        ({"aggregation": "segments", "stride": 8}, "do not lie end to end .set the stride to 16"),
        ({"dtype": "fp16"}, "no precision called 'fp16'"),
        ({"ddof": 2}, "ddof is 0 or 1"),
        ({"weights": "abc"}, "not a sha256"),
        ({"weights": "G" * 64}, "not a sha256"),
        ({"backbone": ""}, "cannot be called"),
        ({"backbone": "a|b"}, "cannot be called"),
        ({"variant": "a/b"}, "cannot be called"),
    ],
)
def test_what_cannot_be_is_refused(change, match):
    with pytest.raises(UserError, match=match):
        replace(FVD, **change)


def test_a_definition_of_a_network():
    assert FeatureDefinition.of(Shape(), policy="styleganv") == FVD
    made = FeatureDefinition.of(Shape(variant=DISCO_POOL), policy="disco", length=9, stride=1, ddof=0)
    assert made.id == "i3d-k400+avgpool177/sha:01234567|disco-legacy@1|T9s1|windows|fp32|ddof0"
    with pytest.raises(UserError, match=r"i3d-k400 takes no windows of 8 frames .set the length to 9 or more"):
        FeatureDefinition.of(Shape(), policy="tf", length=8)


def test_discos_pooling_has_a_corrected_counterpart():
    disco = replace(FVD, policy="disco", variant=DISCO_POOL)
    assert disco.corrected == replace(FVD, policy="disco")
    assert differences(disco.id, disco.corrected.id) == ["network: i3d-k400+avgpool177, i3d-k400"]
    assert disco.corrected.corrected is None
    assert FVD.corrected is None
    assert FID_VID.corrected is None


@pytest.mark.parametrize(("steps", "same"), [(2, True), (3, False), (4, False)])
def test_when_the_pooling_matters(steps, same):
    """The claim of ``corrected``: after two time steps (9 to 16 frames) the mean over time makes both the same."""
    torch.manual_seed(0)
    deep, weight, bias = torch.randn(2, 32, steps, 7, 7), torch.randn(10, 32, 1, 1, 1), torch.randn(10)

    def logits(window):
        return F.conv3d(F.avg_pool3d(deep, (window, 7, 7), 1), weight, bias).mean((2, 3, 4)).numpy()

    assert np.allclose(logits(1), logits(2), atol=1e-6) == same
