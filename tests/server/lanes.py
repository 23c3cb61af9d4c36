"""The warm lane, as tests look at it: how many it has answered, and connections that it does not serve."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.server.connection import Listener
from proxy.server.warm import Lane
from tests.conftest import Adapter


def listener_of(adapter: Adapter) -> Listener:
    listener = adapter.service._public.server
    assert isinstance(listener, Listener)
    return listener


def lane_of(adapter: Adapter) -> Lane:
    lane = listener_of(adapter).lane
    assert lane is not None
    return lane


def served(adapter: Adapter) -> int:
    """Requests that the lane has answered, or begun to and ended."""
    return lane_of(adapter)._access._metrics.lane_requests


@contextmanager
def closed_lane(adapter: Adapter) -> Iterator[None]:
    """Connections that begin now go the long way."""
    listener, lane = listener_of(adapter), lane_of(adapter)
    listener.lane = None
    yield
    listener.lane = lane
