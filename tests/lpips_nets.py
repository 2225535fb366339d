"""An LPIPS network with random weights that counts what passes through it."""

from ipa_bench.nets.checkpoint import random_weights
from ipa_bench.nets.fold import prepare
from ipa_bench.nets.lpips import Lpips
from ipa_bench.observers.networks import Network
from ipa_bench.observers.table import HANDS, PIXELS, perceptual_by


class Counting(Lpips):
    """AlexNet that counts the images that pass through it."""

    passed = 0

    def features(self, images):
        self.passed += len(images)
        return super().features(images)


def drawn(seed=3):
    net = Counting("alex")
    random_weights(net, seed)
    return prepare(net)


def network(net, name="lpips", sha256="0" * 64, short_side=None):
    """A network that is here already."""
    return Network(name, "drawn", list, lambda: sha256, lambda _: net, short_side)


def by_networks(*networks):
    """Observers as in the table, with these networks in place of its own."""
    return (HANDS, PIXELS, *map(perceptual_by, networks))
