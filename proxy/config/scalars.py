"""Single values of the config: sizes, durations, texts, numbers.  Each reads itself and prints itself.

Every reader takes what YAML made of the value and raises `ValueError` with a sentence that ends in what to
write instead; the place in the file is added by `problems.py`.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Self

import durationpy
from pydantic import BeforeValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

_UNITS: Final = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)},
}
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
_LARGEST_SIZE: Final = 2**63 - 1
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d|w))+")
_LONGEST: Final = 100 * 365 * 86_400
_OTHER_UNITS: Final = re.compile(
    r"([0-9.]+) ?(milliseconds?|msec|sec(?:onds?)?|min(?:utes?)?|hours?|hrs?|days?|weeks?|[smhdwSMHDW])"
)
_SHORTEST_SECRET: Final = 16
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


class Size(int):
    """A number of bytes, written as `500MB` (decimal) or `10GiB` (binary)."""

    @classmethod
    def read(cls, value: object) -> Self:
        text = source_text(value)
        match = _SIZE.fullmatch(text)
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"cannot read {text!r} as a size; write {_size_hint(match)}")
        size = int(Decimal(match[1]) * _UNITS[match[2]])
        if size > _LARGEST_SIZE:
            raise ValueError(f"{text!r} is more than any disk holds; write 10GiB or 10TiB")
        return cls(size)

    def __str__(self) -> str:
        for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"):
            if self and self % _UNITS[unit] == 0:
                return f"{self // _UNITS[unit]}{unit}"
        return f"{int(self)}B"


def _size_hint(match: re.Match[str] | None) -> str:
    if match is None:
        return "a number and a unit, such as 500MB or 10GiB"
    number, unit = match[1], match[2]
    if not unit:
        return f"{number}B for bytes, or a unit such as {number}MiB"
    letter = unit[0].upper()
    if letter not in "KMGT":
        return "a unit of B, kB, MB, GB, TB (decimal) or KiB, MiB, GiB, TiB (binary)"
    binary, decimal = f"{number}{letter}iB", f"{number}{'k' if letter == 'K' else letter}B"
    return binary if unit[1:].lower() in ("i", "ib") else f"{binary} or {decimal}"


class Duration(float):
    """Seconds, written as `30s`, `1h30m` or `1d`."""

    @classmethod
    def read(cls, value: object) -> Self:
        text = source_text(value)
        if not _DURATION.fullmatch(text):
            raise ValueError(f"cannot read {text!r} as a duration; write {_duration_hint(text)}")
        try:
            seconds = float(durationpy.from_str(text).total_seconds())
        except durationpy.DurationError:
            seconds = float("inf")
        if seconds > _LONGEST:
            raise ValueError(f"{text!r} is longer than a hundred years; write 365d or less")
        return cls(seconds)

    @classmethod
    def read_positive(cls, value: object) -> Self:
        duration = cls.read(value)
        if not duration:
            raise ValueError(f"{value!r} leaves no time at all; write 30s")
        return duration

    def __str__(self) -> str:
        return str(durationpy.to_str(timedelta(seconds=self))) if self else "0s"


def _duration_hint(text: str) -> str:
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return f"{text}s"
    if match := re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", text):
        return f"{int(match[1])}m{int(match[2])}s or {int(match[1])}h{int(match[2])}m"
    if match := _OTHER_UNITS.fullmatch(text):
        unit = "ms" if match[2].startswith(("milli", "msec")) else match[2][0].lower()
        return f"{match[1]}{unit}"
    return "a number and a unit, such as 30s, 1h30m or 1d"


def read_text(value: object) -> str:
    """Text, and not what YAML took for a number or a boolean."""
    if isinstance(value, bool):
        raise PydanticCustomError("boolean_for_text", "put it in quotes")  # problems.py knows the word
    if isinstance(value, int | float):
        raise ValueError(f"expected text, and YAML reads {value} as a number; put it in quotes")
    if not isinstance(value, str):
        raise ValueError(f"expected text, not {kind(value)}")
    if not value:
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError(f"{value!r} has characters that cannot be printed")
    return value


def read_token(value: object) -> str:
    """A token of RFC 9110 section 5.6.2: one word, as stands in `Via` and `Cache-Status`."""
    text = read_text(value)
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{text!r} is not one plain word; write letters, digits, dots and dashes")
    return text


def read_secret(value: object) -> str:
    """A password that a header field can carry.  No message shows it."""
    if not isinstance(value, str):
        raise ValueError(
            f"expected text, not {'a number' if isinstance(value, int | float) else kind(value)}"
        )
    if len(value) < _SHORTEST_SECRET:
        raise ValueError(f"is shorter than {_SHORTEST_SECRET} characters; take one of `openssl rand -hex 32`")
    if not re.fullmatch("[!-~]+", value):
        raise ValueError(
            "has characters that a header field cannot carry; take one of `openssl rand -hex 32`"
        )
    return value


def read_flag(value: object) -> bool:
    if value in ("true", "false"):  # out of an environment variable, inside quotes
        return value == "true"
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {source_text(value)!r}")
    return value


def whole_number(least: int, most: int) -> Callable[[object], int]:
    """A reader of whole numbers from `least` to `most`."""

    def read(value: object) -> int:
        text = source_text(value)
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise ValueError(f"expected a whole number, not {text!r}")
        if not least <= int(text) <= most:
            raise ValueError(f"{text} is out of bounds; write a number from {least} to {most}")
        return int(text)

    return read


def fraction(value: object) -> float:
    """A share of something, from 0 to 1."""
    text = source_text(value)
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text) or float(text) > 1:
        raise ValueError(f"cannot read {text!r} as a share; write a number from 0 to 1, such as 0.1")
    return float(text)


def source_text(value: object) -> str:
    """A single value as it stands in the file, as far as YAML leaves it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"expected a single value, not {kind(value)}")


def kind(value: object) -> str:
    """What a value is, in words for a message."""
    match value:
        case None:
            return "nothing"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return "a single value"


def text_schema(pattern: str, *examples: str) -> Any:
    """The type whose JSON Schema is text of this pattern; an environment variable may stand for any of it."""
    return Annotated[str, Field(pattern=rf"^(?:{pattern})$|\$\{{.+\}}", examples=list(examples))]


_SIZE_SCHEMA: Final = text_schema(rf"[0-9]+(\.[0-9]+)? ?({'|'.join(_UNITS)})", "500MB", "10GiB")
_DURATION_SCHEMA: Final = text_schema(r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+", "30s", "1h30m", "1d")

SizeValue = Annotated[Size, PlainValidator(Size.read, json_schema_input_type=_SIZE_SCHEMA)]
DurationValue = Annotated[Duration, PlainValidator(Duration.read, json_schema_input_type=_DURATION_SCHEMA)]
TimeoutValue = Annotated[
    Duration, PlainValidator(Duration.read_positive, json_schema_input_type=_DURATION_SCHEMA)
]
Text = Annotated[str, BeforeValidator(read_text, json_schema_input_type=str)]
Token = Annotated[str, BeforeValidator(read_token, json_schema_input_type=str)]
Secret = Annotated[
    str, BeforeValidator(read_secret, json_schema_input_type=text_schema("[!-~]{16,}", "${ADMIN_TOKEN}"))
]
Flag = Annotated[bool, BeforeValidator(read_flag, json_schema_input_type=bool | text_schema("true|false"))]
