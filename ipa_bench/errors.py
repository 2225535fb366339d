"""The two kinds of expected failure. Anything else is a bug and shows its traceback."""


class UserError(Exception):
    """Something the user can mend. Printed as one line, exit status 2.

    ``problem`` says what is wrong and where; ``fix`` says what to do about it.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)  # both, so that it survives pickling between processes
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem} ({self.fix})" if self.fix else self.problem

    @property
    def reason(self) -> str:
        """The error as the recorded reason of something that is absent."""
        return f"{self.problem}; {self.fix}" if self.fix else self.problem


class Unscorable(Exception):
    """One video cannot be scored. Recorded as the reason of a :class:`~ipa_bench.types.Score`; the run goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
