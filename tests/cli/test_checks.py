"""What the doctor finds on this machine, and on ones that are broken in known ways."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ipa_bench.cli import checks as doctor
from ipa_bench.cli.checks import Check


def by_name() -> dict[str, Check]:
    found = doctor.checks()
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def test_this_machine_is_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IPA_BENCH_WEIGHTS", raising=False)
    found = by_name()
    for check in found.values():
        assert check.detail
        assert "\n" not in check.detail + check.fix
        assert check.ok is not False or check.fix, f"{check.name} fails without a fix"
    for name in ("python", "numpy", "libx264 encoder", "h264 decoder", "hevc decoder", "vp9 decoder", "cache folder"):
        assert found[name].ok is True
    assert found["ai-edge-litert"].ok is True
    assert found["torch"].ok is not False
    assert str(tmp_path / "cache") in found["cache folder"].detail
    missing = found["weights hand_landmark_full"]
    assert missing.ok is False
    assert "ipa-bench weights fetch hand_landmark_full" in missing.fix


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    """Put a package in front of whatever is installed, for this process and its children."""
    (folder / f"{name}.py").write_text(code)
    (folder / f"{name}-9.9.dist-info").mkdir()
    (folder / f"{name}-9.9.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_broken_packages_are_found_without_breaking_the_doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    install(tmp_path, monkeypatch, "torch", "class cuda: is_available = staticmethod(lambda: False)")
    install(tmp_path, monkeypatch, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    install(tmp_path, monkeypatch, "mediapipe", "raise OSError('libEGL.so.1: cannot open shared object file')")
    install(tmp_path, monkeypatch, "ai_edge_litert", "import os; os.abort()")
    found = by_name()
    assert found["torchvision"].ok is False
    assert "9.9 does not import: RuntimeError: operator torchvision::nms does not exist" in found["torchvision"].detail
    assert "pip uninstall torchvision" in found["torchvision"].fix
    assert found["mediapipe"].ok is None
    assert "libEGL.so.1" in found["mediapipe"].detail
    assert "libegl1 libgles2" in found["mediapipe"].fix
    assert found["ai-edge-litert"].ok is False
    assert found["ai-edge-litert"].detail
    assert found["cache folder"].ok is False
    assert "IPA_BENCH_CACHE" in found["cache folder"].fix


@pytest.mark.parametrize(
    ("version", "ok"),
    [("2.13.0", True), ("2.13.0+cpu", True), ("2.11.0+cu130", None), ("2.9.1", False), ("odd", False)],
)
def test_torch_version_is_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, ok: bool | None
) -> None:
    (tmp_path / "torch-0.dist-info").mkdir()
    (tmp_path / "torch-0.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    check = doctor._torch(doctor._Answer("[]"))
    assert check.ok is ok
    assert version in check.detail


def test_a_gpu_is_named_and_its_absence_is_a_note() -> None:
    assert doctor._gpu(doctor._Answer('["Some GPU, 139 GiB"]')) == Check("gpu", True, "Some GPU, 139 GiB")
    assert doctor._gpu(doctor._Answer("[]")).ok is None
    assert doctor._gpu(doctor._Answer(None, "no torch")).ok is None


def test_importing_the_doctor_is_light() -> None:
    heavy = "('torch', 'av', 'mediapipe', 'requests')"
    code = f"import sys, ipa_bench.cli.checks; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
