"""Shapes of metrics' arrays are checked at run time by the option of ``pyproject.toml``, here not at every one of
thousands of calls: a check takes longer than most of what it checks."""

from __future__ import annotations

import jaxtyping

#: calls that are checked in every test, and after them every so manieth
FIRST, EVERY = 300, 20


class _Thrifty(type(jaxtyping.config)):  # type: ignore[misc]
    """A configuration of jaxtyping that answers calls in turn."""

    calls = 0
    off = False

    @property
    def jaxtyping_disable(self) -> bool:
        """Whether the call that asks is left unchecked."""
        self.calls += 1
        return self.off or (self.calls > FIRST and self.calls % EVERY > 0)

    @jaxtyping_disable.setter
    def jaxtyping_disable(self, off: bool) -> None:
        self.off = off


def thrifty() -> None:
    """Check few of many calls, from now on."""
    jaxtyping.config.__class__ = _Thrifty
    jaxtyping.config.calls = 0
