"""Document -> Config, or all that is wrong with it at once."""

import os
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.config import checks, hints
from proxy.config.document import Document
from proxy.config.model import Config, Route, default_spool_path
from proxy.config.problems import ConfigError, Path, Problem
from proxy.config.scalars import Size, kind

_MISSING: Final = {
    "origins": "is missing; write at least one origin, such as  origins: {legacy: {url: 'http://127.0.0.1:8000'}}",
    "certificate": "is missing; write its file, such as  certificate: /etc/range-adapter/tls/fullchain.pem",
    "key": "is missing; write its file, such as  key: /etc/range-adapter/tls/privkey.pem",
    "url": "is missing; write where the origin is, such as  url: http://legacy.internal:8000",
}


def parse(document: Document, env: Mapping[str, str]) -> Config:
    """The config that the document describes, completed where it is silent.  Raises `ConfigError`."""
    found = list(document.problems)
    try:
        config = Config.model_validate(document.value)
    except ValidationError as error:
        config = None
        details = error.errors(include_url=False)
        found += [_problem(document, detail) for detail in details if not _is_empty_of_faults(detail)]
    found += checks.problems(document)
    # One problem for each place is enough; what reading found comes first, and stays.
    kept = {(problem.line, problem.column, problem.key): problem for problem in reversed(found)}
    if kept or config is None:
        raise ConfigError(document.name, kept.values())
    return _completed(config, env)


def _completed(config: Config, env: Mapping[str, str]) -> Config:
    given = config.spool.model_fields_set
    folder = config.spool.path if "path" in given else default_spool_path(env)
    update: dict[str, Any] = {"path": os.path.abspath(os.path.expanduser(folder))}
    if "max_object_size" not in given:
        update["max_object_size"] = min(config.spool.max_object_size, config.spool.max_size)
    spool = config.spool.model_copy(update=update)
    only = next(iter(config.origins)) if len(config.origins) == 1 else None
    routes = tuple(
        route.model_copy(update={"name": route.name or f"route-{number}", "origin": route.origin or only})
        for number, route in enumerate(config.routes, 1)
    )
    return config.model_copy(update={"spool": spool, "routes": routes or (Route(name="all", origin=only),)})


def _is_empty_of_faults(detail: ErrorDetails) -> bool:
    """Whether a list is found too short only because its members are faulty, which is told already."""
    return detail["type"] == "too_short" and bool(detail["input"])


def _problem(document: Document, detail: ErrorDetails) -> Problem:
    """pydantic's error in words of ours, at its place."""
    location = detail["loc"]
    if detail["type"] == "missing":
        return document.problem(location, _MISSING[str(location[-1])])
    if detail["type"] == "extra_forbidden":
        return document.problem(location, hints.unknown_key(location), at_key=True)
    if location[-1:] == ("[key]",):
        return document.problem(location[:-1], _message(detail, ""), at_key=True)
    path = _within(document, location)
    return document.problem(path, _message(detail, document.word(path)))


def _within(document: Document, location: Path) -> Path:
    """As much of the location as is in the document: a list of one may stand there as its only member."""
    path: Path = ()
    for step in location:
        if not document.has((*path, step)):
            break
        path = (*path, step)
    return path


def _message(detail: ErrorDetails, word: str) -> str:
    given, bounds = detail["input"], detail.get("ctx", {})
    shown = repr(word) if word else kind(given)
    match detail["type"]:
        case "value_error":
            return str(bounds["error"])
        case "boolean_for_text":
            return f"YAML reads {word} without quotes as {str(given).lower()}; put it in quotes"
        case "literal_error":
            return f"expected {bounds['expected']}, not {shown}"
        case "model_type" | "dict_type":
            return f"expected a mapping with keys of its own, not {shown}"
        case "tuple_type":
            return f"expected a list, not {shown}"
        case "too_short":
            return "must have at least one member"
        case "greater_than_equal":
            return f"{word} is too small; write {Size(bounds['ge'])} or more"
        case "less_than_equal":
            return f"{word} is too large; write {Size(bounds['le'])} or less"
        case _:
            return detail["msg"]
