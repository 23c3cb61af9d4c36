"""Every input of the corpora, and what was found with them, without the fuzzer."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = [path.relative_to(CORPUS).as_posix() for path in sorted(CORPUS.glob("*/*"))]


@pytest.mark.parametrize("name", INPUTS)
def test_nothing_unexpected_comes_of_it(name: str) -> None:
    TARGETS[name.partition("/")[0]]((CORPUS / name).read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert {name.partition("/")[0] for name in INPUTS} == set(TARGETS)
