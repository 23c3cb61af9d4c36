"""All targets, by the names of their corpora."""

from collections.abc import Callable
from typing import Final

from tests.fuzz import documents, doors, values

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "lexing": values.lexing,
    "ranges": values.ranges,
    "tags": values.tags,
    "preconditions": values.preconditions,
    "keys": values.keys,
    "structured": values.structured,
    "heads": documents.heads,
    "configs": documents.configs,
    "requests": doors.requests,
    "responses": doors.responses,
}
