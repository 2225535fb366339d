"""What the tests of the page share: scripts that ask the page, and waiting for it."""

from __future__ import annotations

from pathlib import Path

from tests.browser import Tab

DRIFT = """async (seconds) => {
  const videos = [".stage video", ".closeup video"].flatMap((each) => [...document.querySelectorAll(each)])
    .filter((video) => video.hasAttribute("src"));
  const begin = performance.now();
  let worst = 0, last = [];
  while (performance.now() - begin < 1000 * seconds) {
    await new Promise(requestAnimationFrame);
    last = videos.map((video) => video.currentTime);
    if (performance.now() - begin > 700) worst = Math.max(worst, Math.max(...last) - Math.min(...last));
  }
  return { worst, last, paused: videos.map((video) => video.paused) };
}"""
INK = """(key) => {
  const canvas = document.querySelector(`[data-panel=${key}] canvas`);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return pixels.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""
SCRUB = """(frame) => {
  const slider = document.getElementById("scrub");
  slider.value = frame;
  slider.dispatchEvent(new Event("input"));
}"""
READY = "(key) => document.getElementById('viewer').dataset.ready === key"


def open_page(found: Tab, page: Path, clip: str = "", ready: str = "0.0.0.1") -> None:
    found.page.goto(page.as_uri() + clip)
    found.page.wait_for_function(READY, arg=ready)
    settle(found)


def settle(found: Tab) -> None:
    """Until every video that has a source shows the frame it was sent to."""
    found.page.wait_for_function(
        "() => [...document.querySelectorAll('video[src]')].every((v) => v.readyState >= 2 && !v.seeking)"
    )
    found.page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 120))")
