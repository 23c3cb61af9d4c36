"""Bodies whose descriptors the keeper has handed over."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.spool.threads import Threads
from proxy.workers.bodies import OpenBodies


@pytest.fixture
def bodies() -> Iterator[OpenBodies]:
    threads = Threads()
    yield OpenBodies(threads)
    threads.shutdown()


def opened(path: Path) -> int:
    path.write_bytes(b"film")
    return os.open(path, os.O_RDONLY)


def is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def test_one_descriptor_serves_all_and_is_kept_for_the_next(tmp_path: Path, bodies: OpenBodies) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "a")
    body = bodies.take("a", first)
    assert bodies.take("a", second) is body
    assert not is_open(second)
    body.release()
    body.release()
    assert is_open(first)
    assert bodies.take("a", opened(tmp_path / "a")) is body
    body.release()
    bodies.close()
    assert not is_open(first)


def test_an_idle_one_can_be_held_by_who_remembers_it(tmp_path: Path, bodies: OpenBodies) -> None:
    """As the warm lane does while it sends."""
    file = opened(tmp_path / "a")
    body = bodies.take("a", file)
    body.release()
    body.hold()
    body.release()
    assert is_open(file)
    body.hold()
    bodies.close()
    bodies.close_unlinked()
    assert is_open(file)
    body.release()
    bodies.close()
    assert not is_open(file)


def test_what_the_keeper_has_dropped_is_not_kept(tmp_path: Path, bodies: OpenBodies) -> None:
    gone, busy = opened(tmp_path / "gone"), opened(tmp_path / "busy")
    bodies.take("gone", gone).release()
    body = bodies.take("busy", busy)
    for name in ("gone", "busy"):
        (tmp_path / name).unlink()
    bodies.close_unlinked()
    assert (is_open(gone), is_open(busy)) == (False, True)
    body.release()
    bodies.close_unlinked()
    assert not is_open(busy)
