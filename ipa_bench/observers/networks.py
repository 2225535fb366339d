"""The networks that LPIPS is computed with: where their weights are, and how they are loaded.

Light to import: torch comes with :attr:`Network.load`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ipa_bench import weights
from ipa_bench.cache import digest
from ipa_bench.errors import UserError
from ipa_bench.files import file_sha256

if TYPE_CHECKING:
    from ipa_bench.nets.lpips import Lpips

#: the published network's files, the one that comes by itself last: without the other it is not asked for
_ALEX = ("alexnet", "lpips_alex")
#: ships with the package
_EMBEDDED = Path(__file__).parents[1] / "embedded" / "nets" / "image.safetensors"
#: The embedded network learned on frames of 128 pixels and sees larger ones reduced to about that size, which bounds
#: what it costs. Published LPIPS takes frames as they are.
EMBEDDED_SIDE = 128


@dataclass(frozen=True)
class Network:
    """A network that LPIPS is computed with."""

    #: what comes after the region in a metric's name
    name: str
    #: the observer family: distances by networks of one family are not independent evidence
    family: str
    #: the verified files of its weights; raises UserError where one is missing or wrong
    files: Callable[[], Sequence[Path]]
    #: hash of the weights, whether or not they are here; None where it is not known
    sha256: Callable[[], str | None]
    #: the network, ready to run, from its files; imports torch; raises UserError
    load: Callable[[Sequence[Path]], Lpips]
    #: frames are box-reduced by round(short side / this), at least 1; None: never
    short_side: int | None = None


def _alex_sha256() -> str:
    known = {weight.name: weight.sha256 for weight in weights.WEIGHTS}
    return digest(*(known[name] for name in _ALEX))


def _load_alex(files: Sequence[Path]) -> Lpips:
    from ipa_bench.nets.checkpoint import load
    from ipa_bench.nets.fold import prepare
    from ipa_bench.nets.lpips import Lpips

    net = Lpips("alex")
    load(net.trunk, files[0])
    load(net.heads, files[1])
    return prepare(net)


def _embedded_files() -> Sequence[Path]:
    if not _EMBEDDED.is_file():
        raise UserError(f"{_EMBEDDED.name} of the package is missing", "install ipa-bench again")
    return [_EMBEDDED]


def _embedded_sha256() -> str | None:
    return file_sha256(_EMBEDDED) if _EMBEDDED.is_file() else None


def _load_embedded(_: Sequence[Path]) -> Lpips:
    from ipa_bench.nets.embedded import load_image

    return load_image()


PUBLISHED = Network("lpips", "alexnet", lambda: [weights.path(name) for name in _ALEX], _alex_sha256, _load_alex)
EMBEDDED = Network("lpips.embedded", "embedded-image", _embedded_files, _embedded_sha256, _load_embedded, EMBEDDED_SIDE)
