"""Client programs, run beside the adapter that lives in this process."""

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

PATIENCE = 40.0
"""Seconds after which a program is ended: some ask again for ever, if they do not like what they get."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program left: exit status, standard output, standard error."""

    status: int
    output: bytes
    errors: str

    def __repr__(self) -> str:
        return f"<exit status {self.status}, {len(self.output)} bytes of output\n{self.errors[-2000:]}>"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips where a program is missing.  In CI nothing skips: there the test runs, and fails."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing) and not _in_ci(), reason=f"needs {', '.join(missing)}")


def needs_modules(*modules: str) -> pytest.MarkDecorator:
    """As `needs`, for what is installed from tests/clients/requirements.lock."""
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing) and not _in_ci(), reason=f"needs {', '.join(missing)}")


def _in_ci() -> bool:
    return bool(os.environ.get("CI"))


async def run(folder: Path, program: str, *arguments: str, ok: bool = True) -> Ran:
    """Run a program in `folder`, with nobody's settings and no proxy; `ok`: it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *(program, *arguments),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    ran = Ran(process.returncode, output, errors.decode(errors="replace"))
    assert ran.status == 0 or not ok, ran
    return ran


async def run_python(folder: Path, script: str, *arguments: str) -> bytes:
    """Run a script, in a process of its own since it may block; its standard output."""
    return (await run(folder, sys.executable, "-W", "error", "-c", script, *arguments)).output
