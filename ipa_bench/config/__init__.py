"""What a user writes down, checked: TOML files to pydantic models, the types of values, and the first mistake."""

from ipa_bench.config.fields import checked
from ipa_bench.config.toml import Toml, read_toml

__all__ = [
    "Toml",
    "checked",
    "read_toml",
]
