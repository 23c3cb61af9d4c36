"""A real Chromium on the demo: through the adapter it seeks, straight at the origin it cannot."""

import asyncio
import math
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.async_api import Page, async_playwright, expect

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.timeout(120),
]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

SECONDS = 60
PATIENCE = 30_000  # ms

MEDIA_FACTS = """video => ({
    duration: video.duration,
    currentTime: video.currentTime,
    seekable: [video.seekable.start(0), video.seekable.end(video.seekable.length - 1)],
})"""

# Of the strip between the scale and the large number.
MEAN_COLOUR = """video => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [160, 90];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 16, 160, 8);
    const mean = (channel) => {
        let sum = 0;
        for (let at = channel; at < data.length; at += 4) sum += data[at];
        return sum / (data.length / 4);
    };
    return [mean(0), mean(1), mean(2)];
}"""

PLAY_FROM_97_PERCENT = """video => new Promise((resolve, reject) => {
    video.addEventListener("ended", () => resolve(video.currentTime));
    video.addEventListener("error", () => reject(video.error.message));
    video.currentTime = 0.97 * video.duration;
    video.play().catch(reject);
})"""


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[str]:
    """`range-adapter demo` in a process of its own; the adapter's URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "demo", "--no-open", "--port", str(port)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    try:
        while b"Open " not in (line := await process.stdout.readline()):
            assert line, "the demo ended before it was ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0
    assert os.listdir(tmp_path) == [], "the demo left its spool behind"


@pytest.fixture
async def page(demo: str) -> AsyncIterator[Page]:
    """The demo's page, with both players ready."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE)
        await page.goto(demo)
        for player in ("#straight", "#adapter"):
            await page.locator(f"{player} .verdict:not([data-state=waiting])").wait_for()
        yield page
        await browser.close()


async def moment_shown(page: Page, player: str) -> float:
    """The film's time at which the picture has this colour: its chroma turns 5 degrees a second."""
    red, green, blue = await page.locator(f"{player} video").evaluate(MEAN_COLOUR)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    chroma_blue, chroma_red = (blue - luma) / 1.8556, (red - luma) / 1.5748
    angle: float = math.degrees(math.atan2(chroma_red, chroma_blue))
    return angle % 360 / 5


async def test_seeks_through_the_adapter_and_not_without(page: Page) -> None:
    adapter, straight = page.locator("#adapter"), page.locator("#straight")
    facts = await adapter.locator("video").evaluate(MEDIA_FACTS)
    assert facts["duration"] == pytest.approx(SECONDS, abs=0.1)
    assert facts["seekable"] == [0, facts["duration"]]
    assert (await straight.locator("video").evaluate(MEDIA_FACTS))["seekable"] == [0, 0]

    await page.get_by_role("button", name="Seek both to 90 %").click()

    await expect(adapter.locator(".verdict")).to_contain_text("Seeking works", timeout=PATIENCE)
    facts = await adapter.locator("video").evaluate(MEDIA_FACTS)
    assert facts["currentTime"] == pytest.approx(0.9 * SECONDS, abs=0.1)
    assert await moment_shown(page, "#adapter") == pytest.approx(0.9 * SECONDS, abs=1)

    await expect(straight.locator(".verdict")).to_contain_text(
        "so the player went to 0.0 s", timeout=PATIENCE
    )
    facts = await straight.locator("video").evaluate(MEDIA_FACTS)
    assert facts["currentTime"] < 1
    assert (await moment_shown(page, "#straight") + 1) % 72 < 2  # the colours' circle is 72 s long


async def test_plays_to_the_end(page: Page) -> None:
    ended_at = await page.locator("#adapter video").evaluate(PLAY_FROM_97_PERCENT)
    assert ended_at == pytest.approx(SECONDS, abs=0.1)
    # The picture may lag behind the clock where there is no graphics card.
    assert await moment_shown(page, "#adapter") == pytest.approx(SECONDS, abs=2)


async def test_shows_what_the_servers_answer(page: Page, demo: str) -> None:
    adapter, straight = page.locator("#adapter"), page.locator("#straight")
    await expect(adapter.locator("[data-fact=status]")).to_have_text("206 Partial Content")
    await expect(adapter.locator("[data-fact=content-range]")).to_contain_text("bytes 0-1/")
    await expect(adapter.locator("[data-fact=accept-ranges]")).to_have_text("bytes")
    await expect(straight.locator("[data-fact=status]")).to_have_text("200 OK")
    await expect(straight.locator("[data-fact=content-range]")).to_have_text("none")

    await page.get_by_role("button", name="Seek to 90 %, through range-adapter").click()
    await expect(page.locator("#cache-status")).to_contain_text("range-adapter; hit")
    traffic = await (await page.request.get(f"{demo}/traffic.json")).json()
    assert traffic["adapter"]["requests"] == 1
    assert traffic["straight"]["requests"] > 1


async def test_a_cold_film_has_another_address(page: Page) -> None:
    await page.get_by_role("button", name="Start again, cold").click()
    await expect(page.locator("#adapter .url")).to_contain_text("/video.mp4?take=")
    await expect(page.locator("#adapter .verdict")).to_contain_text("Can seek", timeout=PATIENCE)
