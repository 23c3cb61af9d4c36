"""The framing of multipart/byteranges."""

from email import message_from_bytes
from email.policy import HTTP

from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.multipart import frame
from proxy.semantics.ranges import Slice
from tests.semantics.exchanges import BOUNDARY, BodyPart, parse_byteranges


def test_the_example_of_the_rfc() -> None:
    """RFC 9110 section 15.3.7.2, with this house's order of fields."""
    parts, length = frame([Slice(500, 1000), Slice(7000, 8000)], 8000, "application/pdf", BOUNDARY)
    assert parts == (
        (
            b"\r\n--THIS_STRING_SEPARATES\r\n"
            b"Content-Type: application/pdf\r\n"
            b"Content-Range: bytes 500-999/8000\r\n"
            b"\r\n"
        ),
        Slice(500, 1000),
        (
            b"\r\n--THIS_STRING_SEPARATES\r\n"
            b"Content-Type: application/pdf\r\n"
            b"Content-Range: bytes 7000-7999/8000\r\n"
            b"\r\n"
        ),
        Slice(7000, 8000),
        b"\r\n--THIS_STRING_SEPARATES--\r\n",
    )
    assert length == 500 + 1000 + sum(len(part) for part in parts if isinstance(part, bytes))


def test_without_a_type_and_without_a_length() -> None:
    parts, _ = frame([Slice(0, 1)], None, None, "b")
    assert parts == (b"\r\n--b\r\nContent-Range: bytes 0-0/*\r\n\r\n", Slice(0, 1), b"\r\n--b--\r\n")


def test_types_of_any_bytes() -> None:
    """Values are UTF-8, and lone surrogates stand for bytes that are not."""
    parts, _ = frame([Slice(0, 1)], 1, "text/x; name=\u00e9\udce9", "b")
    assert (
        parts[0]
        == b"\r\n--b\r\nContent-Type: text/x; name=\xc3\xa9\xe9\r\nContent-Range: bytes 0-0/1\r\n\r\n"
    )


@given(st.binary(min_size=1), st.data())
def test_what_is_framed_can_be_taken_apart(content: bytes, data: st.DataObject) -> None:
    bounds = st.integers(0, len(content) - 1).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start + 1, len(content)))
    )
    slices = [Slice(start, stop) for start, stop in data.draw(st.lists(bounds, min_size=1, max_size=5))]
    parts, length = frame(slices, len(content), "video/mp4", BOUNDARY)
    body = b"".join(part if isinstance(part, bytes) else content[part.start : part.stop] for part in parts)
    assert len(body) == length
    assert parse_byteranges(body, BOUNDARY) == [
        BodyPart(each.start, each.stop - 1, str(len(content)), "video/mp4", content[each.start : each.stop])
        for each in slices
    ]


def test_the_standard_library_reads_it() -> None:
    content = bytes(range(256))
    slices = [Slice(0, 10), Slice(100, 200)]
    parts, _ = frame(slices, 256, "application/octet-stream", BOUNDARY)
    body = b"".join(part if isinstance(part, bytes) else content[part.start : part.stop] for part in parts)
    head = f"Content-Type: multipart/byteranges; boundary={BOUNDARY}\r\n\r\n".encode()
    message = message_from_bytes(head + body, policy=HTTP)
    assert not message.defects
    read = [(part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()]
    assert read == [("bytes 0-9/256", content[:10]), ("bytes 100-199/256", content[100:200])]
