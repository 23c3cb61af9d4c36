"""YAML text -> plain values, each with its place in the file; environment variables are put in on the way.

This is YAML 1.1 as PyYAML reads it, without what that version does behind the writer's back: duplicate keys,
numbers in base 60 or base 8, and tags are problems with a place, not values.
"""

import copy
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import expandvars  # type: ignore[import-untyped]
import yaml

from proxy.config.problems import ConfigError, Path, Problem, key_text

_LARGEST_FILE: Final = 1024 * 1024
_MOST_VALUES: Final = 20_000  # once aliases are followed: ten lines of them can stand for billions
_DEEPEST: Final = 40
_TAG: Final = "tag:yaml.org,2002:"
_OCTAL: Final = re.compile(r"[-+]?0[0-7_]+")
_VARIABLE: Final = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<form>:-|:\?)[^{}]*)?\}")


@dataclass(slots=True)
class Document:
    """A file's content.

    `value` is made of dicts, lists and single values; `problems` is what was wrong already in reading it.
    """

    name: str
    value: Any = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _words: dict[Path, str] = field(default_factory=dict)
    _flags: dict[Path, str] = field(default_factory=dict)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """A problem with the value at `path`, or with its key; in the nearest mapping where it is missing."""
        for length in range(len(path), 0, -1):
            if flag := self._flags.get(path[:length]):
                return Problem(0, 0, flag, message)
        places = self._keys if at_key else self._places
        line, column = next((places[p] for p in _upwards(path) if p in places), (0, 0))
        return Problem(line, column, key_text(path), message)

    def word(self, path: Path) -> str:
        """A single value as it stands in the file."""
        return self._words.get(path, "")

    def has(self, path: Path) -> bool:
        """Whether anything is said at `path`, were it only `null`."""
        match self.get(*path[:-1]), path[-1]:
            case dict() as mapping, step:
                return step in mapping
            case list() as members, int() as step:
                return step < len(members)
            case _:
                return False

    def get(self, *path: str | int) -> Any:
        """The value at `path`; None where there is none."""
        value = self.value
        for step in path:
            match value, step:
                case dict(), str():
                    value = value.get(step)
                case list(), int():
                    value = value[step] if step < len(value) else None
                case _:
                    return None
        return value

    def with_flag(self, flag: str, path: Path, value: object) -> "Document":
        """This document with a value from the command line, whose problems name the flag."""
        changed = copy.deepcopy(self)
        changed._flags[path] = flag
        target = changed.value
        for step in path[:-1]:
            if target.get(step) is None:
                target[step] = {}
            target = target[step]
            if not isinstance(target, dict):  # a problem of its own, told by the model
                return changed
        target[path[-1]] = value
        return changed


def _upwards(path: Path) -> Iterator[Path]:
    return (path[:length] for length in range(len(path), -1, -1))


def read(path: str, env: Mapping[str, str]) -> Document:
    """Read the file.  Raises `ConfigError` where nothing can be made of it."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        hint = (
            "; name the file to read, or start without one: --origin URL" if not os.path.exists(path) else ""
        )
        raise ConfigError(path, [Problem(0, 0, "", f"cannot be read: {error.strerror}{hint}")]) from None
    if len(content) > _LARGEST_FILE:
        raise ConfigError(path, [Problem(0, 0, "", "is larger than 1MiB; is it the right file?")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(content[: error.start].decode("utf-8-sig", "replace"))
        problem = Problem(
            line, column, "", f"is not UTF-8 text (byte 0x{content[error.start]:02x}); save it as UTF-8"
        )
        raise ConfigError(path, [problem]) from None
    return read_text(text, path, env)


def read_text(text: str, name: str, env: Mapping[str, str]) -> Document:
    """`read`, for text in memory."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line, column = _position(text[: error.position])
        message = f"has a character that no text file has (U+{ord(text[error.position]):04X}); take it out"
        raise ConfigError(name, [Problem(line, column, "", message)]) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(name, [_syntax_problem(error, text)]) from None
    except RecursionError:
        raise ConfigError(name, [Problem(1, 1, "", "lists or mappings are nested too deeply")]) from None
    except (ValueError, OverflowError) as error:  # an escape such as \UFFFFFFFF, which PyYAML does not catch
        raise ConfigError(name, [Problem(1, 1, "", f"cannot read this as YAML: {error}")]) from None
    if node is None or node.tag == f"{_TAG}null":
        smallest = "the smallest config is:  origins: {legacy: {url: 'http://127.0.0.1:8000'}}"
        raise ConfigError(name, [Problem(1, 1, "", f"the file is empty; {smallest}")])
    document = Document(name)
    reader = _Reader(document, env)
    document.value = reader.value(node, ())
    if not isinstance(document.value, dict):
        message = "expected keys such as origins: and routes: at the beginning of lines"
        raise ConfigError(name, [document.problem((), message)])
    return document


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    said = error.problem or error.context or "cannot be read"
    lines = text.splitlines()
    around = lines[line] if line < len(lines) else ""
    if "'\\t'" in said:
        message = "there is a tab; YAML is indented with spaces only"
    elif said.startswith("mapping values are not allowed"):
        message = "there is a colon too many; indent the line like its neighbours, or put the text in quotes"
    elif "${" in around and "expected" in said:
        message = f"cannot read this as YAML: {said}; put ${{...}} in quotes"
    else:
        message = f"cannot read this as YAML: {said}"
    return Problem(line + 1, column + 1, "", message)


class _Reader:
    """Walks the nodes that PyYAML composes, and notes places, words and problems in the document."""

    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self._document = document
        self._env = dict(env)
        self._constructor = yaml.constructor.SafeConstructor()
        self._resolver = yaml.resolver.Resolver()
        self._values = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._count(node, len(path))
        self._document._places[path] = _place(node)
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return self._mapping(node, path)
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return [self.value(member, (*path, index)) for index, member in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, path)
            case _:
                return self._fault(path, f"the tag {_short(node.tag)} means nothing here; take it out")

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._values += 1
        if self._values <= _MOST_VALUES and depth <= _DEEPEST:
            return
        line, column = _place(node)
        what = "is nested too deeply" if depth > _DEEPEST else f"has more than {_MOST_VALUES} values"
        message = f"this {what}, with its aliases followed; does an alias (*name) stand inside what it names?"
        raise ConfigError(self._document.name, [*self._document.problems, Problem(line, column, "", message)])

    def _fault(self, path: Path, message: str) -> None:
        self._document.problems.append(self._document.problem(path, message))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values = {}
        for key, (key_node, value_node) in self._entries(node, path, len(path)).items():
            self._document._keys[(*path, key)] = _place(key_node)
            values[key] = self.value(value_node, (*path, key))
        return values

    def _entries(
        self, node: yaml.MappingNode, path: Path, depth: int
    ) -> dict[str, tuple[yaml.ScalarNode, yaml.Node]]:
        """Keys with their nodes; the mapping's own keys win over those it merges (`<<: *anchor`)."""
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key_node, value_node in node.value:
            self._count(key_node, depth)
            if key_node.tag == f"{_TAG}merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if isinstance(source, yaml.MappingNode):
                        merged = self._entries(source, path, depth + 1) | merged
                    else:
                        self._note(key_node, (*path, "<<"), "merges mappings only; write <<: *anchor")
            elif not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, path, "a key is one plain word, not a list or a mapping")
            elif key_node.value in own:
                first = _place(own[key_node.value][0])[0]
                self._note(
                    key_node, (*path, key_node.value), f"stands here twice; the first is on line {first}"
                )
            else:
                own[key_node.value] = (key_node, value_node)
        return merged | own

    def _note(self, node: yaml.Node, path: Path, message: str) -> None:
        self._document.problems.append(Problem(*_place(node), key_text(path), message))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text, tag = node.value, node.tag
        if "${" in text:
            expanded = self._expanded(text, path)
            if expanded is None:
                return text
            text = expanded
            if node.style is None:
                tag = self._resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        self._document._words[path] = text
        match tag.removeprefix(_TAG):
            case "str" | "timestamp" | "value" | "merge":
                return text
            case "null":
                return None
            case "bool" | "int" | "float" as kind:
                return self._special(kind, text, path)
            case _:
                return self._fault(path, f"the tag {_short(tag)} means nothing here; take it out")

    def _special(self, kind: str, text: str, path: Path) -> Any:
        """A boolean or a number, unless YAML makes another one of it than what is written."""
        scalar = yaml.ScalarNode(f"{_TAG}{kind}", text)
        try:
            value = getattr(self._constructor, f"construct_yaml_{kind}")(scalar)
        except (ValueError, LookupError, ArithmeticError):
            return self._fault(path, f"cannot read {text!r} as a value of the tag !!{kind}")
        if ":" in text:
            self._fault(path, f"YAML reads {text} as the number {value}, in base 60; put it in quotes")
        elif kind == "int" and _OCTAL.fullmatch(text):
            plain = re.sub("^([-+]?)0+", r"\1", text) or "0"
            self._fault(
                path,
                f"YAML reads {text} as the number {value}, in base 8; write {plain}, or put it in quotes",
            )
        return value

    def _expanded(self, text: str, path: Path) -> str | None:
        """The text with its environment variables, or None where that is impossible."""
        if "${" in _VARIABLE.sub("", text):
            self._fault(
                path, f"cannot read {text!r}; write ${{NAME}}, ${{NAME:-default}} or ${{NAME:?message}}"
            )
            return None
        try:
            return str(expandvars.expand(text, nounset=True, environ=self._env, surrounded_vars_only=True))
        except expandvars.UnboundVariable as error:
            missing = error.args[0].partition(":")[0]
            self._fault(path, f"the environment has no {missing}; set it, or write ${{{missing}:-default}}")
        except expandvars.ExpandvarsException as error:
            self._fault(path, f"from the environment: {error.args[0]}")
        return None


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _short(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
