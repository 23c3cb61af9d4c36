"""Players: a film whose index stands at its end, cold, and a seek into it."""

from pathlib import Path

import pytest

from tests.clients.conftest import FILM, Site
from tests.clients.programs import needs, run

pytestmark = pytest.mark.clients

SECONDS = 60
LATE = str(0.9 * SECONDS)
DURATION = ("-show_entries", "format=duration", "-of", "csv=p=0")


@pytest.fixture
def url(site: Site, sized: bool) -> str:
    return site.serve("/film.mp4", FILM.read_bytes(), sized=sized, content_type="video/mp4")


async def frame_at(folder: Path, moment: str, film: str) -> bytes:
    """One picture of the film, as RGB."""
    one = ("-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return (await run(folder, "ffmpeg", "-v", "error", "-ss", moment, "-i", film, *one)).output


@needs("ffprobe")
async def test_ffprobe_finds_the_index(site: Site, folder: Path, url: str) -> None:
    ran = await run(folder, "ffprobe", "-v", "error", *DURATION, url)
    assert float(ran.output) == pytest.approx(SECONDS, abs=0.1)
    assert site.origin.count("/film.mp4") == 1


@needs("ffmpeg")
async def test_ffmpeg_seeks(site: Site, folder: Path, url: str) -> None:
    (folder / "film.mp4").write_bytes(FILM.read_bytes())
    expected = await frame_at(folder, LATE, "film.mp4")
    for _ in ("cold", "warm"):
        assert await frame_at(folder, LATE, url) == expected
    assert expected != await frame_at(folder, "0", "film.mp4")
    assert len(expected) == 1280 * 720 * 3
    assert site.origin.count("/film.mp4") == 1


@needs("ffmpeg")
async def test_ffmpeg_reads_all(site: Site, folder: Path, url: str) -> None:
    """Every packet of sound and picture, by checksum."""
    (folder / "film.mp4").write_bytes(FILM.read_bytes())
    packets = ("-map", "0", "-c", "copy", "-f", "framehash", "-")
    local = await run(folder, "ffmpeg", "-v", "error", "-i", "film.mp4", *packets)
    assert (await run(folder, "ffmpeg", "-v", "error", "-i", url, *packets)).output == local.output


@needs("mpv")
async def test_mpv_seeks(site: Site, folder: Path, url: str) -> None:
    (folder / "film.mp4").write_bytes(FILM.read_bytes())
    show = ("--no-config", "--really-quiet", "--ao=null", "--vo=image", "--vo-image-format=png", "--hwdec=no")
    for name, film in (("local", "film.mp4"), ("ours", url)):
        await run(folder, "mpv", *show, f"--vo-image-outdir={name}", f"--start={LATE}", "--frames=1", film)
    [expected], [shown] = [list((folder / name).iterdir()) for name in ("local", "ours")]
    assert shown.read_bytes() == expected.read_bytes()
    assert site.origin.count("/film.mp4") == 1


@needs("gst-launch-1.0")
async def test_gstreamer_pulls_the_index(site: Site, folder: Path, url: str, sized: bool) -> None:
    """souphttpsrc opens without Range, and pulls from anywhere if that says Accept-Ranges and Content-Length."""
    (folder / "film.mp4").write_bytes(FILM.read_bytes())
    if not sized:
        await run(folder, "gst-launch-1.0", "-q", "souphttpsrc", f"location={url}", "!", "fakesink")
    pictures = ("qtdemux", "name=film", "film.video_0", "!", "filesink")
    ours = ("souphttpsrc", f"location={url}", "!", "queue2", "ring-buffer-max-size=10000000")
    for name, source in (("local", ("filesrc", "location=film.mp4")), ("ours", ours)):
        await run(folder, "gst-launch-1.0", "-q", *source, "!", *pictures, f"location={name}")
    assert (folder / "ours").read_bytes() == (folder / "local").read_bytes()
    assert len(site.ranges) >= 2
    assert site.origin.count("/film.mp4") == 1
