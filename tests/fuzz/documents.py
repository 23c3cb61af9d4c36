"""Files: the heads of stored objects, which a disk may have spoiled, and configs, which people write."""

import json

from proxy.config import ConfigError, parse
from proxy.config.document import read_text
from proxy.errors import SpoolError
from proxy.spool.entry import dump_head, load_head


def heads(data: bytes) -> None:
    """A head file is an entry, or SpoolError; and what was read is written as it was."""
    try:
        entry = load_head(data)
    except SpoolError:
        return
    written = dump_head(entry)
    assert dump_head(load_head(written)) == written
    assert written.isascii()
    assert "\n" not in written
    json.loads(written)


def configs(data: bytes) -> None:
    """A config is good, or it has problems, each in a line that the file has."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        parse(read_text(text, "fuzz.yaml", {"HOME": "/home/me", "A": "1", "URL": "http://a"}), {})
        return
    except ConfigError as error:
        found = error
    assert found.problems
    assert str(found)
    for problem in found.problems:
        assert problem.message
        assert 0 <= problem.line <= len(text) + 1
