"""What the table ``[methods.NAME]`` of a configuration has in common: keys that only one method reads."""

from __future__ import annotations

from ipa_bench.config.fields import StrictTable


class Options(StrictTable):
    """Keys of one method; a method without any has none of these."""

    @property
    def reference(self) -> bool:
        """Whether these ask for a pass of the reference that the method could do without."""
        return False
