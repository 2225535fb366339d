"""``ipa-bench`` in this process, which has imported everything already."""

from __future__ import annotations

import sys

import pytest

from ipa_bench import cli
from ipa_bench.engine import processes


def verb(*arguments: object) -> int:
    """The exit status of ``ipa-bench`` with these arguments. No worker processes are kept ready."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "prepare", lambda module: None)
        patch.setattr(sys, "argv", ["ipa-bench", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as ended:
            return int(str(ended.code or 0))
    return 0
