"""Who keeps the spool, where nobody does."""

import asyncio
import socket
from typing import NoReturn

import pytest

from proxy.errors import KeeperLost, SpoolError, SpoolInUse
from proxy.semantics.purging import Everything
from proxy.spool.epochs import Epochs
from proxy.workers import office
from proxy.workers.following import Following
from proxy.workers.office import Office


def office_at(knock: socket.socket, knocks: socket.socket) -> Office:
    return Office(knock, knocks, lambda: None, epochs=Epochs(), partition_ttl=1.0)


async def taken() -> NoReturn:
    raise SpoolInUse("another one has it")


async def test_where_nobody_takes_over_a_request_waits_for_a_while_and_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(office, "PATIENCE", 0.05)
    knock, knocks = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with knock, knocks:
        lonely = office_at(knock, knocks)
        with pytest.raises(KeeperLost) as failure:
            await lonely.purge(Everything(), soft=False)
        assert (failure.value.status, failure.value.reason) == (503, "keeper-lost")
        await lonely.close()


async def test_whoever_goes_as_soon_as_it_has_said_welcome_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes = [SpoolInUse("another one has it"), SpoolError("it is gone, and so is the disk")]

    async def take() -> NoReturn:
        raise takes.pop(0)

    async def is_welcome(following: Following) -> bool:
        following._link._lose()
        await asyncio.sleep(0)
        return True

    monkeypatch.setattr(office, "_is_welcome", is_welcome)
    knock, knocks = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with knock, knocks:
        worker = office_at(knock, knocks)
        with pytest.raises(SpoolError, match="the disk"):
            await worker.open(take, lambda request: NotImplemented, alone=False)
        assert worker.spool.keeper is None
        await worker.close()


async def test_the_first_worker_does_not_wait_for_others() -> None:
    knock, knocks = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with knock, knocks:
        first = office_at(knock, knocks)
        with pytest.raises(SpoolInUse):
            await first.open(taken, lambda request: NotImplemented, alone=True)
        await first.close()


async def test_whoever_asks_in_the_moment_in_which_the_keeper_goes_waits_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(office, "PATIENCE", 0.05)
    knock, knocks = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with knock, knocks:
        worker = office_at(knock, knocks)
        following = worker._follow()
        assert following is not None
        worker._set(following)
        following._link._lose()  # it is known, and nobody has been told yet
        with pytest.raises(KeeperLost):
            await worker.purge(Everything(), soft=False)
        await worker.close()
