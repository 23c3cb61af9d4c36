"""Lines of JSON whose last member is the CRC-32 of what they are without that: by it, rot is found."""

from typing import Final
from zlib import crc32

_SEAL: Final = ', "crc32": '


def sealed(text: str) -> str:
    """An object's text, which is ASCII and has a member at least, with its seal."""
    return f"{text[:-1]}{_SEAL}{crc32(text.encode('ascii'))}}}"


def is_sealed(text: str | bytes) -> bool:
    """Is it as it was written?"""
    raw = text.encode("ascii") if isinstance(text, str) else text
    written, _, rest = raw.rpartition(_SEAL.encode("ascii"))
    return rest == b"%d}" % crc32(written + b"}")
