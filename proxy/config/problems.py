"""What is wrong with a config, and where."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys of mappings and indices of lists."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend.  Line and column count from 1; both are 0 for what has no place in the file."""

    line: int
    column: int
    key: str
    message: str


class ConfigError(Exception):
    """Everything that is wrong with one config, in the order of its lines.

    `name` is the file as the user named it.  `str()` has a line for each problem, with a place that editors
    and terminals make a link of: `config.yaml:12:5 routes[1].cache.ttl: cannot read '30' as a duration; ...`
    """

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(self._line, self.problems)))

    def _line(self, problem: Problem) -> str:
        if problem.line:
            place = f"{self.name}:{problem.line}:{problem.column}"
            return (
                f"{place} {problem.key}: {problem.message}" if problem.key else f"{place} {problem.message}"
            )
        return f"{problem.key or self.name}: {problem.message}"


def key_text(path: Path) -> str:
    """A path as messages show it: `routes[1].cache.ttl`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if re.fullmatch(r"[\w-]+", step) else repr(step))
    return text
