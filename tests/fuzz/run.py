"""One target under atheris: `python -m tests.fuzz.run TARGET [FOLDER ...] [libFuzzer's flags]`."""

import sys

import atheris

with atheris.instrument_imports(include=["proxy", "http_sf", "aiohttp"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    program, target, *rest = sys.argv
    atheris.Setup([program, *rest], TARGETS[target])
    atheris.Fuzz()
