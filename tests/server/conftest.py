"""What tests of the server share."""

from pathlib import Path

import pytest

from tests.server.pki import Pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)
