"""docs/cache-status.md names every word that the service can say in Cache-Status: by reading the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import proxy.errors
from proxy.errors import AdapterError
from proxy.semantics.cache_status import Forward
from proxy.semantics.storing import NoStore

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "cache-status.md").read_text("utf-8")

TELLING = {"Ignored": 0, "Passed": 1, "_answer_here": 3}
"""Calls that take a token, and where among their arguments."""
TELLING_KEYWORDS = {"reason", "detail", "range_ignored"}
NEVER_SENT = {NoStore.PARTIAL.value}
"""The service answers `origin-malformed` before it would come to that."""


def _texts(node: ast.expr | None) -> Iterator[str]:
    """The constants that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def _tokens_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                for keyword in node.keywords:
                    if keyword.arg in TELLING_KEYWORDS:
                        yield from _texts(keyword.value)
                if name in TELLING and len(node.args) > TELLING[name]:
                    yield from _texts(node.args[TELLING[name]])
            case ast.FunctionDef(name="_fault"):
                for part in ast.walk(node):
                    if isinstance(part, ast.Return) and isinstance(part.value, ast.Tuple):
                        yield from _texts(part.value.elts[1])
            case ast.Assign(
                targets=[
                    ast.Attribute(attr="reason")
                    | ast.Name(
                        id="ORIGIN_FAILED"
                        | "FRESH_KEPT"
                        | "DIFFERENT"
                        | "STALE_IF_ERROR"
                        | "STALE_WHILE_REVALIDATE"
                        | "UNFINISHED"
                    )
                ]
            ):
                yield from _texts(node.value)


def _errors(kind: type[AdapterError]) -> Iterator[type[AdapterError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _errors(each)


def tokens() -> set[str]:
    """Every reason and detail of the code."""
    modules = [path for path in (ROOT / "proxy").rglob("*.py") if path.name != "explain.py"]
    found = {token for path in modules for token in _tokens_of(ast.parse(path.read_text("utf-8")))}
    found |= {kind.reason for kind in _errors(AdapterError) if kind.__module__ == proxy.errors.__name__}
    return (found | {reason.value for reason in NoStore}) - {""}


ROWS = [word for word in re.findall(r"^\| `([^`]+)` \|", DOCUMENT, re.MULTILINE) if word != "detail="]
"""The words at the beginning of the document's table rows."""


def test_every_token_is_explained_to_operators() -> None:
    said = {word for word in ROWS if "=" not in word}
    known = tokens() - NEVER_SENT | {"hit", "stored", "collapsed"}
    assert len(known) > 60, "the code is not read as it should be"
    assert known - said == set(), "write them into docs/cache-status.md"
    assert said - known == set(), "docs/cache-status.md tells of what nobody says"


def test_every_reason_to_forward_is_explained() -> None:
    said = {word for word in ROWS if word.startswith("fwd=") and word != "fwd=…"}
    assert said == {f"fwd={each.value}" for each in Forward}


def test_each_is_explained_once() -> None:
    assert len(ROWS) == len(set(ROWS)), sorted(word for word in ROWS if ROWS.count(word) > 1)


def test_refusals_have_the_status_of_their_error() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([0-9]{3}) \|", DOCUMENT, re.MULTILINE))
    for kind in _errors(AdapterError):
        if kind.reason in rows and "reason" in vars(kind):
            assert int(rows[kind.reason]) == kind.status, kind.reason
