"""Each part imports only what stands above it in the list of `proxy/__init__.py`: by reading every module."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROXY = Path(__file__).parent.parent / "proxy"

MAY_IMPORT = {
    "errors": set[str](),
    "semantics": set[str](),
    "patience": set[str](),
    "incidents": set[str](),
    "slots": {"errors", "semantics"},
    "exact": {"errors", "semantics", "patience"},
    "health": {"errors"},
    "connector": {"errors", "exact", "health"},
    "origin": {"errors", "semantics", "patience", "exact", "slots", "health", "connector"},
    "spool": {"errors", "semantics"},
    "fill": {"errors", "semantics", "origin", "spool"},
    "cache": {"errors", "semantics", "incidents", "slots", "origin", "spool", "fill"},
    "config": set[str](),
    "routes": {"errors", "semantics", "config"},
    "facts": {"semantics"},
    "answers": {"errors", "semantics", "facts"},
    "explain": {"errors", "semantics", "config", "routes", "facts", "answers"},
    "server": {
        *("patience", "incidents", "exact", "errors", "semantics"),
        *("origin", "spool", "fill", "cache", "routes"),
    },
    "workers": {"errors", "semantics", "spool", "fill", "cache"},
    "admin": {"errors", "semantics", "origin", "spool", "fill", "cache"},
    "demo": {"errors", "semantics", "config", "server"},
    "commands": {
        *(
            "errors",
            "semantics",
            "config",
            "routes",
            "answers",
            "explain",
            "spool",
            "server",
            "admin",
            "demo",
        ),
    },
    "cli": {"config", "commands"},
    "__main__": {"cli"},
}
"""Each part of the house, and which other parts it may import."""

WIRING = {
    "server/app.py": {"config", "admin", "workers"},
    "server/keeping.py": {"config", "admin"},
    "server/listening.py": {"config"},
    "server/origins.py": {"config"},
    "server/process.py": {"config", "workers"},
}
"""What else the wiring may import, and the process around it."""

PURE_LIBRARIES = {"multidict", "http_sf"}
IMPURE = {
    *(
        "asyncio",
        "concurrent",
        "contextvars",
        "multiprocessing",
        "selectors",
        "signal",
        "subprocess",
        "threading",
    ),
    *("fcntl", "glob", "io", "mmap", "os", "pathlib", "shutil", "tempfile", "logging"),
    *("http", "random", "secrets", "socket", "ssl", "time", "urllib", "uuid"),
}
"""Of the standard library: what reads a clock, a disk, a network or dice, or waits."""

MODULES = sorted(path.relative_to(PROXY).as_posix() for path in PROXY.rglob("*.py"))


def part_of(module: str) -> str:
    return module.partition("/")[0].removesuffix(".py")


def imports(module: str) -> Iterator[tuple[int, str]]:
    """The line and the dotted name of each import, those in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse((PROXY / module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"proxy/{module}:{node.lineno}: write the absolute name"
            name = node.module or ""
            names = [f"{name}.{alias.name}" for alias in node.names] if name == "proxy" else [name]
            yield from ((node.lineno, each) for each in names)


def own_imports(module: str) -> Iterator[tuple[int, str]]:
    for line, name in imports(module):
        package, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        if package == "proxy" and part and part != "__version__":
            yield line, part


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__.py"])
def test_imports_point_down(module: str) -> None:
    part = part_of(module)
    assert part in MAY_IMPORT, (
        f"proxy/{module} is a new part of the house: say in MAY_IMPORT what it stands on"
    )
    allowed = MAY_IMPORT[part] | {part} | WIRING.get(module, set())
    for line, imported in own_imports(module):
        assert imported in allowed, (
            f"proxy/{module}:{line} imports `{imported}`, which is not below `{part}`. Hand the value in as an "
            f"argument, or move what both need down; `{part}` stands on {', '.join(sorted(allowed - {part}))}."
        )


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module) == "semantics"])
def test_semantics_is_pure(module: str) -> None:
    for line, name in imports(module):
        library = name.partition(".")[0]
        is_pure = library in PURE_LIBRARIES or (library in sys.stdlib_module_names and library not in IMPURE)
        assert is_pure or library == "proxy", (
            f"proxy/{module}:{line} imports `{library}`: semantics/ has no I/O, no clock and no chance. "
            "Take what you need from it as an argument."
        )
    text = (PROXY / module).read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith), (
            f"proxy/{module}:{node.lineno} awaits: semantics/ decides, others wait."
        )
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        assert called not in {"open", "print", "input"}, (
            f"proxy/{module} calls {called}: semantics/ has no I/O."
        )


@pytest.mark.parametrize("library", ["aiohttp", "apsw", "pydantic", "click", "prometheus_client"])
def test_each_foreign_library_has_its_place(library: str) -> None:
    """So that replacing one stays a matter of one part."""
    place = {
        "aiohttp": {"exact", "connector", "origin", "server", "admin", "demo"},
        "apsw": {"spool"},
        "pydantic": {"config"},
        "click": {"cli", "commands", "demo"},
        "prometheus_client": {"server", "admin"},
    }[library]
    for module in MODULES:
        for line, name in imports(module):
            if name.partition(".")[0] == library:
                assert part_of(module) in place, (
                    f"proxy/{module}:{line} imports {library}, which belongs in {', '.join(sorted(place))}"
                )


def test_the_map_names_every_part() -> None:
    docstring = ast.get_docstring(ast.parse((PROXY / "__init__.py").read_text("utf-8"))) or ""
    for part in MAY_IMPORT:
        assert part == "__main__" or part in docstring, f"say in proxy/__init__.py what `{part}` is"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_what_one_head_holds(module: str) -> None:
    count = len((PROXY / module).read_text("utf-8").splitlines())
    assert count <= 350, f"proxy/{module} has {count} lines: find the cut"
