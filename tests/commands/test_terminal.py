"""Figures for people."""

import pytest

from proxy.commands.terminal import size_text, span_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (102_348, "99.9 KiB"),
        (102_400, "100 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (10**20, "88818 PiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m59s"),
        (7500, "2h05m"),
        (86_400, "1d"),
        (90_000, "1d01h"),
        (40 * 86_400 + 9999, "40d"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span_text(seconds) == text
