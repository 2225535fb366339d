"""Things that make a video for a case: a folder of finished videos, a damaged copy, a base model with its LoRA.

``kinds`` is the table of what a suite can name; ``base`` what generators and trainers know of a base model.
"""

from ipa_bench.models.base import Model

__all__ = ["Model"]
