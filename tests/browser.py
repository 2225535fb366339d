"""A real Chromium for the tests that look at pages; they skip, saying so, where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Quiet, without a sandbox (containers have no user namespaces) and without a network of its own.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def executable() -> str | None:
    """$IPA_BENCH_CHROMIUM, or the first Chromium or Chrome on the path."""
    named = os.environ.get("IPA_BENCH_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Tab:
    """A page and everything it complained about or asked for."""

    page: Any
    #: console errors and warnings, uncaught errors, dialogs
    trouble: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """A started browser with a profile of its own. Skips the test where playwright or a browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = executable()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the path; set IPA_BENCH_CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Any, *, width: int = 1400, height: int = 1000, dark: bool = False) -> Iterator[Tab]:
    """A fresh page that writes down its troubles."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(10_000)
    found = Tab(page)

    def dialog(shown: Any) -> None:
        found.trouble.append(f"dialog: {shown.message}")
        shown.dismiss()

    def console(message: Any) -> None:
        # that a canvas is read more than once is the tests' doing
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            found.trouble.append(message.text)

    page.on("console", console)
    page.on("pageerror", lambda error: found.trouble.append(str(error)))
    page.on("dialog", dialog)
    page.on("request", lambda request: found.requests.append(request.url))
    try:
        yield found
    finally:
        context.close()
