"""From videos to the features of a video network: preprocessing by name, windows, extraction, and what a feature is."""

from ipa_bench.observers.features.backbone import Backbone as Backbone
from ipa_bench.observers.features.backbone import TorchBackbone as TorchBackbone
from ipa_bench.observers.features.definition import FeatureDefinition as FeatureDefinition
from ipa_bench.observers.features.definition import check_comparable as check_comparable
from ipa_bench.observers.features.extract import Features as Features
from ipa_bench.observers.features.extract import Skipped as Skipped
from ipa_bench.observers.features.extract import extract as extract
from ipa_bench.observers.features.policies import POLICIES as POLICIES
