"""The card that the hub reads, and an upload to a server of this machine: nothing else is ever asked."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from ipa_bench.errors import UserError
from trainers import card, hub

ABOUT: dict[str, Any] = {
    "method": "ipa",
    "base": {"model": "Wan-AI/Wan2.1-VACE-1.3B-diffusers", "identity": "commit:0123456789abcdef"},
    "reference": "the base model: the LoRA switched off",
    "config": {
        "adapter": {"full": False, "strength": 1.0, "rank": 4, "layers": "qkv", "blocks": "all"},
        "loss": {"beta": 600.0, "time_weight": "squared", "hand_weight": 10.0, "hand_form": "authors"},
        "train": {"steps": 2, "batch": 1, "lr": 1e-4, "seed": 0, "precision": "fp32"},
        "data": {"mask": "exact"},
    },
    "data": {
        "clips": 3, "identities": 2, "candidates": None, "pairs": None,
        "chosen_by": ["hand_quality@2"], "no_evidence": ["hand_quality@2", "hand.recall@1"],
    },
    "cost": {"train_seconds": None, "peak_memory_gb": None},
    "measured": {"step": 2, "cases": 4, "identities": 2, "metrics": {"hand_quality@2": 0.7, "rest.psnr@1": 31.5}},
}  # fmt: skip


def test_the_card_is_one_that_the_hub_parses() -> None:
    text = card.text(ABOUT)
    data = ModelCard(text).data
    assert data.base_model == "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
    assert (data.library_name, data.license, data.pipeline_tag) == ("diffusers", "apache-2.0", "image-to-video")
    assert {"lora", "ipa", "human-animation"} <= set(data.tags or [])
    found = {result.metric_name: result.metric_value for result in data.eval_results or []}
    assert found == {"hand_quality@2 (chose the clips: no evidence)": 0.7, "rest.psnr@1": 31.5}
    assert (data.eval_results or [])[0].dataset_name == "4 held-out cases of 2 people"
    assert "# A LoRA trained by ipa with ipa-bench" in text


def test_a_card_says_nothing_that_is_not_known(tmp_path: Path) -> None:
    about = {**ABOUT, "base": {"model": str(tmp_path), "identity": "sha256:0123"}}
    del about["measured"]
    data = ModelCard(card.text(about)).data
    assert data.base_model is None
    assert (data.license, data.license_name) == ("other", "that-of-the-base-model")
    assert data.eval_results is None
    other = {**ABOUT, "base": {**ABOUT["base"], "weights": ["Phantom-Wan-1.3B.pth"]}}
    assert ModelCard(card.text(other)).data.base_model is None
    assert "weights `Phantom-Wan-1.3B.pth`" in card.text(other)
    full = {**about, "config": {**ABOUT["config"], "adapter": {**ABOUT["config"]["adapter"], "full": True}}}
    assert "lora" not in (ModelCard(card.text(full)).data.tags or [])


class Stub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files asks for."""

    asked: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        answer: dict[str, Any] = {}
        if self.path == "/api/repos/create":
            answer = {"url": f"http://{self.headers['Host']}/me/mine", "name": "me/mine"}
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        elif "/commit/" in self.path:
            answer = {"commitUrl": f"http://{self.headers['Host']}/me/mine/commit/1", "commitOid": "1", "success": True}
        self.asked.append((self.path, body))
        self._answer(answer)

    def do_GET(self) -> None:
        self.asked.append((self.path, ""))
        self._answer({"siblings": [], "sha": "0", "id": "me/mine"})

    def _answer(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    Stub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "nothing")
    yield Stub.asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_upload_brings_the_folder_and_makes_it_private(tmp_path: Path, stub: list[tuple[str, Any]]) -> None:
    (tmp_path / "README.md").write_text(card.text(ABOUT))
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    assert hub.push(tmp_path, "me/mine").endswith("/me/mine")
    create = json.loads(next(body for path, body in stub if path == "/api/repos/create"))
    assert create.get("private") is True or create.get("visibility") == "private"
    commit = next(body for path, body in stub if "/commit/" in path)
    lines = [json.loads(line) for line in commit.splitlines()]
    files = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
    assert base64.b64decode(files["pytorch_lora_weights.safetensors"]) == b"weights"
    assert base64.b64decode(files["README.md"]).decode() == card.text(ABOUT)
    # the hub's own client asks for its list of agents, once a day and with nothing of ours
    allowed = {"repos", "models", "validate-yaml", "agent-harnesses"}
    assert {path.split("?")[0].split("/")[2] for path, _ in stub} <= allowed


def test_what_cannot_be_uploaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is no name on the hub"):
        hub.push(tmp_path, "mine")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", "http://127.0.0.1:9", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(UserError, match="was not uploaded to me/mine"):
        hub.push(tmp_path, "me/mine")
