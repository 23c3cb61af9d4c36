"""What a request to the admin listener must bring if it changes something.

A page in somebody's browser can send requests to this machine, by its address or by a name that it has made point
here; the token it cannot know.
"""

import hmac
import os
import pwd
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from proxy.errors import SpoolError
from proxy.spool.folder import write_file

FILE: Final = "admin-token"
"""In the spool folder: the token of the service that runs there, where the config names none."""


@dataclass(frozen=True, slots=True)
class Token:
    """`place` tells people where to find it."""

    value: str = field(repr=False)
    place: str

    @classmethod
    def configured(cls, value: str) -> Self:
        return cls(value, "admin.token in the config of the service")

    @classmethod
    def fresh(cls, spool: Path) -> Self:
        """A new one, in a file that only its owner can read.  Blocks; raises OSError."""
        token = cls(secrets.token_urlsafe(32), f"in the file {spool / FILE}")
        write_file(spool / FILE, token.text, durable=False)
        return token

    @property
    def text(self) -> str:
        """What stands in that file."""
        return self.value + "\n"

    def is_in(self, fields: Mapping[str, str]) -> bool:
        """Does a request bring it (RFC 6750 section 2.1)?  Takes as long for a near guess as for a far one."""
        scheme, _, given = fields.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.value.encode())
        return scheme.lower() == "bearer" and same


def read_token(spool: Path) -> str:
    """The token of the service that keeps its objects in this folder.  Raises SpoolError, in words for a person."""
    path = spool / FILE
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        advice = (
            "is the service running, and with this spool? Else name its config (-c), or its token (--token)"
        )
        raise SpoolError(f"there is no {path}; {advice}") from None
    except PermissionError:
        raise SpoolError(f"you may not read {path}; run this as {_reader(path)} (sudo)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpoolError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no token'}"
        ) from None


def _reader(path: Path) -> str:
    """Who may: the owner of the file, or of the nearest folder that tells us its own."""
    for each in (path, *path.parents):
        try:
            uid = os.stat(each).st_uid
        except PermissionError:
            continue
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"user {uid}"
        return name if uid == 0 else f"{name} or root"
    return "root"
