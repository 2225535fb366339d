"""The model card that the Hugging Face hub reads, and the way there, which is taken only where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipa_bench.errors import UserError
from ipa_bench.models.specs import HUB_NAME

#: owners whose base models are under Apache-2.0, as their pages say
_APACHE = ("Wan-AI", "alibaba-pai", "bytedance-research")


def front_matter(about: Mapping[str, Any]) -> str:
    """The YAML that a card begins with, of what :func:`trainers.card.describe` says; ``huggingface_hub`` reads it.

    ``base_model`` is named where it is one of the hub. The index has what was measured on held-out cases; a metric that
    chose the clips, or looks through the same networks, says so in its name.
    """
    from huggingface_hub import EvalResult, ModelCardData

    model, full = about["base"]["model"], about["config"]["adapter"]["full"]
    own = about["base"].get("weights")  # then the model of that name is not what was trained on
    of_hub = not own and HUB_NAME.fullmatch(model) is not None and not Path(model).is_dir()
    known: dict[str, Any] = {"base_model": model} if of_hub else {}
    if of_hub and not full:
        known["base_model_relation"] = "adapter"
    if of_hub and model.partition("/")[0] in _APACHE:
        known["license"] = "apache-2.0"
    else:
        known |= {"license": "other", "license_name": "that-of-the-base-model"}
    found = about.get("measured")
    if found:
        known["model_name"] = f"{about['method']} by ipa-bench"
        known["eval_results"] = [
            EvalResult(
                task_type="image-to-video",
                dataset_type="held-out-cases",
                dataset_name=f"{found['cases']} held-out cases of {found['identities']} people",
                metric_type=metric,
                metric_name=metric
                + (" (chose the clips: no evidence)" if metric in about["data"]["no_evidence"] else ""),
                metric_value=value,
            )
            for metric, value in sorted(found["metrics"].items())
        ]
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="image-to-video",
        tags=["human-animation", "ipa-bench", about["method"], *([] if full else ["lora"])],
        **known,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def check_name(name: str) -> None:
    """Raise :class:`UserError` for what is no name of the hub."""
    if not HUB_NAME.fullmatch(name):
        raise UserError(f"{name} is no name on the hub", "give OWNER/NAME")


def push(folder: Path, name: str) -> str:
    """Upload a folder with its card to ``name`` (``owner/name``) on the hub, made private where it is not there yet.

    The token is the one that ``hf auth login`` left. Gives the address. Raises :class:`UserError` where it fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    check_name(name)
    # what a server that is not there raises: httpx's, in the version that the hub's client has
    unreachable: Any = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    api = HfApi()
    try:
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="LoRA and card written by ipa-bench")
    except (OSError, ValueError, unreachable) as error:
        why = str(error).strip().partition("\n")[0][:200]
        raise UserError(
            f"{folder} was not uploaded to {name}: {why}", "hf auth login, and run the same again"
        ) from error
    return str(address)
