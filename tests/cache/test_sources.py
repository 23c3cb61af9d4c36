"""Sources keep their word: as many bytes as `wait` says, from where `read` is asked."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.cache.sources import Passing
from proxy.errors import OriginTruncated
from proxy.semantics.representation import Representation
from proxy.semantics.validators import origin_validators


class Response:
    """An origin's response that comes in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.reads = 0
        self.closed = False

    async def read(self) -> bytes:
        self.reads += 1
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        self.closed = True


def passing(response: Response, length: int | None) -> Passing:
    fields = CIMultiDictProxy(CIMultiDict[str]())
    representation = Representation(200, fields, origin_validators(fields, None), length)
    return Passing(response, representation)  # type: ignore[arg-type]  # all it needs


async def test_a_passing_body_is_read_forwards() -> None:
    response = Response(b"0123", b"4567", b"89")
    source = passing(response, 10)
    assert await source.wait(0) == 4
    assert await source.read(1, 3) == b"12"
    assert await source.wait(6) == 8
    assert await source.read(6, 8) == b"67"
    assert response.reads == 2, "no sooner than it is wanted"
    with pytest.raises(AssertionError):
        await source.read(3, 5)
    assert await source.wait(8) == 10
    source.close()
    assert response.closed


async def test_a_passing_body_that_is_short_says_so() -> None:
    source = passing(Response(b"0123"), 10)
    assert await source.wait(3) == 4
    with pytest.raises(OriginTruncated):
        await source.wait(4)


async def test_a_passing_body_of_unknown_length_ends_where_it_ends() -> None:
    source = passing(Response(b"0123", b"45"), None)
    assert await source.wait(5) == 6
    assert await source.wait(6) == 6
