"""The source tree under test: its command line as real processes, one thread each, with a cache of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: model files that find body and hands; they come by themselves, into the user's own cache
MODELS = ("palm_detection_full", "hand_landmark_full", "pose_detection", "pose_landmark_full")
#: sums depend on the number of threads; downloads, GPUs and the user's own model files are left aside
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
UNSET = ("IPA_BENCH_WEIGHTS", "FORCE_COLOR", "PYTHONHASHSEED")
SAID = "said"
#: seconds that the longest command may take on a busy machine
PATIENCE = 1800


@dataclass(frozen=True)
class Tree:
    """A source tree, the interpreter that runs it, and the folder in which everything happens."""

    source: Path
    python: Path
    work: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of the tree."""
        kept = {name: value for name, value in os.environ.items() if name not in UNSET}
        own = {"PYTHONPATH": str(self.source), "IPA_BENCH_CACHE": str(self.work / "cache")}
        return kept | ENVIRONMENT | own

    def package(self) -> Path:
        """The folder of the package. Raises ``RuntimeError`` where another tree would be run."""
        code = "import ipa_bench; print(ipa_bench.__file__)"
        found = subprocess.run(
            [self.python, "-c", code], env=self.environment, cwd=self.work, capture_output=True, text=True, check=True
        )
        folder = Path(found.stdout.strip()).parent
        if not folder.is_relative_to(self.source):
            raise RuntimeError(f"{self.python} imports {folder}, not the package of {self.source}")
        return folder

    def fill_cache(self) -> None:
        """Model files in the folder's own cache, so that nothing observed before is there."""
        import pooch

        environment = {**os.environ, "PYTHONPATH": str(self.source), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [self.python, "-m", "ipa_bench", "weights", "fetch", *MODELS]
        subprocess.run(command, env=environment, cwd=self.work, check=True, stdout=subprocess.DEVNULL)
        theirs = Path(os.environ.get("IPA_BENCH_CACHE") or pooch.os_cache("ipa-bench"))
        (self.work / "cache").mkdir()
        for name in MODELS:
            own = Path(os.environ.get("IPA_BENCH_WEIGHTS", theirs), f"{name}.tflite")
            shutil.copy(own if own.exists() else theirs / own.name, self.work / "cache")

    def run(self, name: str, *arguments: object, code: int = 0) -> None:
        """One command to its end; what it says is kept under its name.

        Raises ``RuntimeError`` where its exit status is not ``code``.
        """
        process = self._start(name, arguments)
        try:
            status = process.wait(timeout=PATIENCE)
        finally:
            _end(process)
        if status != code:
            said = (self._said(name, "err")).read_text()[-2000:]
            raise RuntimeError(f"{name}: exit status {status} instead of {code}\n{said}")

    def kill_when(self, moment: Callable[[], bool], name: str, *arguments: object) -> None:
        """Start a command and SIGKILL it at a moment; what it said until then is not kept, it depends on timing.

        Raises ``RuntimeError`` where it ends by itself before.
        """
        process = self._start(name, arguments)
        try:
            while not moment():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended before it was killed\n{self._said(name, 'err').read_text()}")
                time.sleep(0.002)
        finally:
            _end(process)
        for stream in ("out", "err"):
            self._said(name, stream).unlink()

    def _said(self, name: str, stream: str) -> Path:
        return self.work / SAID / f"{name}.{stream}.txt"

    def _start(self, name: str, arguments: tuple[object, ...]) -> subprocess.Popen[bytes]:
        """In a process group of its own, in the work folder."""
        (self.work / SAID).mkdir(exist_ok=True)
        command = [str(self.python), "-m", "ipa_bench", *map(str, arguments)]
        with self._said(name, "out").open("wb") as out, self._said(name, "err").open("wb") as err:
            return subprocess.Popen(
                command, env=self.environment, cwd=self.work, stdout=out, stderr=err, start_new_session=True
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and its children, where it has not ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
