"""Folder, index and books are made to agree: after an end that was no orderly one, and after the disk has failed."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

from proxy.errors import SpoolError
from proxy.spool import calls
from proxy.spool.admission import Admission
from proxy.spool.catalogue import Catalogue
from proxy.spool.condition import Condition, Trouble, trouble_of
from proxy.spool.folder import Claim, Paths, discard_filling, take_again, write_file
from proxy.spool.leaving import Leaving
from proxy.spool.partials import Partials
from proxy.spool.room import Room
from proxy.spool.whole import whole

P = ParamSpec("P")
R = TypeVar("R")

LOOK_INTERVAL = 5.0
"""Seconds between two looks at whether the folder is still there: who reads and writes open files does not notice."""
PROOF = 64 << 10
"""Bytes that the disk has to take before it counts as well again."""


class Upkeep:
    """`orderly`: does nothing lie in the folder that the index does not know?  `rewrite` writes down the purges in
    force, and `resume` lets them go on.
    """

    def __init__(
        self,
        owned: Claim,
        catalogue: Catalogue,
        admission: Admission,
        leaving: Leaving,
        partials: Partials,
        room: Room,
        disk: Executor,
        rewrite: Callable[[], Awaitable[None]],
        resume: Callable[[], None],
        *,
        orderly: bool,
    ) -> None:
        self.condition = Condition(owned.paths.root, self._repair)
        self._claim = owned
        self._catalogue = catalogue
        self._admission = admission
        self._room = room
        self._disk = disk
        self._leaving = leaving
        self._partials = partials
        self._rewrite = rewrite
        self._resume = resume
        self._orderly = orderly
        self._moved = False
        self.kept: dict[str, str] = {}
        """Small files of others, by name: the folder has them again when it had to be made again."""
        self._leftovers: list[str] = []
        self._sweeping: asyncio.Task[None] | None = None
        if not orderly:
            self._start_sweep()
        self._looking = asyncio.create_task(self._look(), name="spool look")

    # The sweep

    @property
    def sweeping(self) -> bool:
        """May something lie in the folder that the index does not know yet?"""
        return not self._orderly

    async def swept(self) -> None:
        """Wait until everything in the folder has been found, or that has failed."""
        while self._sweeping is not None and not self._sweeping.done():
            await asyncio.wait({self._sweeping})

    def _start_sweep(self) -> None:
        self._sweeping = asyncio.create_task(self._sweep(), name="spool sweep")

    async def _sweep(self) -> None:
        try:
            async for replaced in self._catalogue.sweep():
                self._leaving.forget(replaced)
            self._orderly = True
            await whole(self._pay())
        except SpoolError:
            pass  # it is known, and what puts it right begins anew

    async def _stop_sweep(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})

    # What the disk does to us

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            if self.condition.trouble is not None:
                continue
            try:
                if not await self._on_disk(self._claim.holds):
                    self.condition.begin(Trouble.GONE, "it is not the folder that was opened")
                elif not await self._catalogue.in_place():
                    self.condition.begin(Trouble.INDEX, "its file was removed or replaced")
            except OSError as error:
                self.condition.note(error)
            except SpoolError:
                pass  # it is known

    async def discard(self, generation: str) -> None:
        """Unlink what never became an object: now, or when the disk lets it go."""
        try:
            await self._on_disk(discard_filling, self._claim.paths, generation)
        except OSError as error:
            self._leftovers.append(generation)
            self.condition.note(error)

    async def _repair(self, trouble: Trouble) -> None:
        await whole(self._restore(trouble))

    async def _restore(self, trouble: Trouble) -> None:
        """Raises SpoolError, OSError where it remains as it is, or something else is wrong."""
        if not await self._on_disk(self._claim.holds):
            await self._stop_sweep()
            self._claim = await self._on_disk(partial(take_again, self._claim))
            self._moved = True
            for name, text in self.kept.items():
                path = self._claim.paths.root / name
                await self._on_disk(partial(write_file, path, text, durable=False))
        await self._prove_disk(trouble)
        is_lost = self._moved or not await self._in_place()
        if is_lost or trouble in {Trouble.INDEX, Trouble.CORRUPT}:
            await self._stop_sweep()
            self._orderly = False
            if self._moved:
                await self._partials.drop(self._partials)
            await self._rewrite()
            await self._catalogue.reopen(anew=trouble is Trouble.CORRUPT)
            if self._moved:
                self._leaving.let_all_go()
            self._moved = False
        await self._partials.drop_lost()
        await self._catalogue.prove()
        await self._pay()
        if not self._orderly and (self._sweeping is None or self._sweeping.done()):
            self._start_sweep()
        self._resume()

    async def _in_place(self) -> bool:
        try:
            return await self._catalogue.in_place()
        except SpoolError:
            return False

    async def _prove_disk(self, trouble: Trouble) -> None:
        """Write something, as an object is written: the disk may have thought better of it only when it is synced."""
        reservation = self._room.reserve()
        try:
            if trouble is Trouble.FULL:
                self._admission.doubt()
                await self._admission.grow(reservation, min(PROOF, self._room.max_size // 8))
            await self._on_disk(_write_proof, self._claim.paths)
        except OSError as error:
            if trouble_of(error) is Trouble.FULL:
                await self._admission.shrink(PROOF)
            raise
        finally:
            self._room.settle(reservation)

    async def _pay(self) -> None:
        """Carry out what was promised while the disk could not."""
        await self._leaving.remove(self._catalogue.owed)
        for digest in self._catalogue.ended:
            stored = [
                *await self._catalogue.of_target(digest),
                *await self._catalogue.in_partition(digest),
            ]
            await self._leaving.remove(stored)
            await self._catalogue.settle(digest)
            self._catalogue.note_end(digest)
        while self._leftovers:
            await self._on_disk(discard_filling, self._claim.paths, self._leftovers[-1])
            self._leftovers.pop()

    async def stop(self) -> None:
        """Leave everything as it is by now."""
        self._looking.cancel()
        await asyncio.wait({self._looking})
        await self.condition.close()
        await self._stop_sweep()

    def release(self, *, orderly: bool) -> None:
        """Let go of the folder.  Blocks."""
        settled = not (self._catalogue.owed or self._catalogue.ended or self._leftovers)
        self._claim.release(orderly=orderly and self._orderly and settled)

    async def _on_disk(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(work, *args, **kwargs))


def _write_proof(paths: Paths) -> None:
    path = paths.filling / "proof.new"
    fd = calls.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        calls.write_all(fd, os.urandom(PROOF), 0)  # nothing that could be stored as less
        calls.fdatasync(fd)
    finally:
        calls.close(fd)
        calls.unlink(path)
