"""The access log's lines, as the adapter hands them over."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.server.lines import Line


class _Heard(logging.Handler):
    def __init__(self, on_line: Callable[[Line], object]) -> None:
        super().__init__()
        self._on_line = on_line

    def handle(self, record: logging.LogRecord) -> bool:
        assert isinstance(record.msg, list), "they come in batches"
        for line in record.msg:
            self._on_line(line)
        return True


@contextmanager
def access_log(on_line: Callable[[Line], object]) -> Iterator[None]:
    """`on_line` is called with each line; for adapters that are started meanwhile."""
    handler, logger = _Heard(on_line), logging.getLogger("access")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel("NOTSET")
