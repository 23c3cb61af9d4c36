"""What is asked for, with the fields that Chromium sends."""

import random
from dataclasses import dataclass

from tests.bench.origin import MODIFIED

KiB = 1 << 10
MiB = 1 << 20
VISITORS = 64
"""Browsers, each with cookies of its own."""


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of the origin; its entity tag is its name."""

    name: str
    size: int

    @property
    def target(self) -> str:
        return f"/{self.name}?size={self.size}&rate=0&tag={self.name}"

    @property
    def tag(self) -> str:
        return f'"{self.name}"'


def film(thing: Thing, start: int, stop: int, visitor: int = 0) -> dict[str, str]:
    """A `<video>` that wants the bytes [start, stop) of what it has begun to play."""
    return {
        **_chromium("video", "no-cors", visitor),
        "Accept-Encoding": "identity;q=1, *;q=0",
        "Range": f"bytes={start}-{stop - 1}",
        "If-Range": thing.tag,
    }


def segment(visitor: int = 0) -> dict[str, str]:
    """A player's script that fetches a part of a stream."""
    return {**_chromium("empty", "cors", visitor), "Accept-Encoding": "gzip, deflate, br, zstd"}


def known(thing: Thing, visitor: int = 0) -> dict[str, str]:
    """The same, when the browser has it and asks whether that is still right."""
    return {**segment(visitor), "If-None-Match": thing.tag, "If-Modified-Since": MODIFIED}


def head(port: int, thing: Thing, fields: dict[str, str], *, host: str | None = None) -> str:
    """A request as it goes over the wire; to `host`, if that is not the address."""
    lines = [f"GET {thing.target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Connection: keep-alive"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in fields.items()), "", ""])


def slices(thing: Thing, length: int, count: int, seed: int) -> list[dict[str, str]]:
    """Fields that ask for so many slices of this length, anywhere in it; the same for the same seed."""
    dice = random.Random(seed)
    starts = [dice.randrange(thing.size - length + 1) for _ in range(count)]
    return [film(thing, start, start + length, number % VISITORS) for number, start in enumerate(starts)]


def _chromium(destination: str, mode: str, visitor: int) -> dict[str, str]:
    return {
        "sec-ch-ua-platform": '"Linux"',
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/146.0.0.0 Safari/537.36",
        "sec-ch-ua": '"Chromium";v="146", "Not A(Brand";v="24"',
        "sec-ch-ua-mobile": "?0",
        "Accept": "*/*",
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": mode,
        "Sec-Fetch-Dest": destination,
        "Referer": "http://127.0.0.1/watch",
        "Accept-Language": "en-GB,en;q=0.9",
        "Cookie": f"_ga=GA1.1.12345678{visitor:02}.1700000000; "
        f"_ga_AB12CD34EF=GS2.1.s1700000000$o3$g1$t17000001{visitor:02}$j60$l0$h0; "
        f"session=3f786850e387550fdab836ed7e6dc881de23001{visitor:02}",
    }
