"""The framing of `multipart/byteranges` (RFC 9110 section 14.6), with its length known beforehand."""

from collections.abc import Iterable

from proxy.semantics.ranges import Slice


def frame(
    slices: Iterable[Slice], complete_length: int | None, content_type: str | None, boundary: str
) -> tuple[tuple[bytes | Slice, ...], int]:
    """The body's parts in order (delimiters and heads as bytes) and its exact length in bytes.

    `boundary` is a token of at most 70 characters, random enough that no body holds it; `content_type` is the
    representation's, repeated in every part.
    """
    parts: list[bytes | Slice] = []
    type_line = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    # In front of the first one, too, as Apache and nginx have it: zsync skips a line there without a look.
    delimiter = f"\r\n--{boundary}"
    for slice_ in slices:
        head = f"{delimiter}\r\n{type_line}Content-Range: {slice_.content_range(complete_length)}\r\n\r\n"
        parts += (head.encode("utf-8", "surrogateescape"), slice_)
    parts.append(f"{delimiter}--\r\n".encode())
    return tuple(parts), sum(map(len, parts))
