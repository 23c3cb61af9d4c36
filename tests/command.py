"""A command of `range-adapter`, as a process, in an environment that says nothing else."""

import asyncio
import os
import re
import sys
from pathlib import Path

_SLOW = re.compile(rb"^Executing <.*> took \d+\.\d+ seconds\n", re.MULTILINE)
"""What asyncio says, in development mode, of a machine that is busy."""


async def run(command: str, folder: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    """Its exit status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-X", "dev", "-W", "error", "-m", "proxy", command, *arguments),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), "HOME": str(folder), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in errors
    return process.returncode, output.decode(), _SLOW.sub(b"", errors).decode()
