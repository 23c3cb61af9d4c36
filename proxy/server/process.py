"""The service as a process: its signals, its limits, its log, and what its manager hears."""

import asyncio
import json
import os
import resource
import signal
import socket
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from proxy.config import Config
from proxy.errors import AdapterError
from proxy.server import logs, memory
from proxy.server.app import start
from proxy.server.listening import bound
from proxy.server.tls import Certificate
from proxy.workers.seat import Seat
from proxy.workers.supervisor import Supervisor

_log = structlog.stdlib.get_logger("service")


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the process' exit status."""
    return _run(config, None) if config.server.workers == 1 else _supervise(config)


def _supervise(config: Config) -> int:
    logs.configure_without_thread(level=config.logging.level, style=config.logging.format)
    _raise_descriptor_limit()
    admin_addresses = [] if config.admin.listen is None else [config.admin.listen]
    try:
        *public, admin = asyncio.run(bound([*config.server.listen, *admin_addresses]))
    except OSError as error:
        _log.error("cannot start", why=str(error))
        return 1
    if not admin_addresses:
        public, admin = [*public, admin], []

    def tell_ready(said: dict[str, Any]) -> None:
        _log.info("serving", **said, spool=config.spool.path, workers=config.server.workers)
        _notify("READY=1")

    def tell_stopping() -> None:
        _log.info("stopping", drain=config.server.timeouts.drain)
        _notify("STOPPING=1")

    supervisor = Supervisor(
        config.server.workers,
        partial(_run, config),
        public=public,
        admin=admin,
        drain=config.server.timeouts.drain,
        on_ready=tell_ready,
        on_stopping=tell_stopping,
        on_hangup=_tell_of_hangup if config.server.tls is None else None,
    )
    return supervisor.run()


def _run(config: Config, seat: Seat | None) -> int:
    """In this process, which may be one of several."""
    listener = logs.configure(
        level=config.logging.level, style=config.logging.format, worker=None if seat is None else seat.number
    )
    status = 1
    try:
        if seat is None:
            _raise_descriptor_limit()
        memory.keep()
        status = asyncio.run(_serve(config) if seat is None else _work(config, seat))
    finally:
        listener.stop()
        if listener.stuck:
            os._exit(status)  # Python itself would wait for standard error
    return status


def _raise_descriptor_limit() -> None:
    """As far as we may: a client costs one, a body that is read another."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError) as error:  # macOS takes no "unlimited", a sandbox no change at all
        _log.warning("the limit of open files stays as it is", why=str(error))


async def _serve(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _tell_of_hangup)
    try:
        service = await start(config)
    except (AdapterError, OSError) as error:
        _log.error("cannot start", why=str(error))
        return 1
    if service.certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, _renew, service.certificate)
    _log.info("serving", addresses=service.addresses, admin=service.admin_address, spool=config.spool.path)
    _notify("READY=1")
    await stop.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)  # a second signal ends it at once
    _log.info("stopping", drain=config.server.timeouts.drain)
    _notify("STOPPING=1")
    await service.stop()
    return 0


async def _work(config: Config, seat: Seat) -> int:
    """As one worker of several: until SIGTERM, or until the supervisor is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    try:
        service = await start(config, seat)
    except (AdapterError, OSError) as error:
        _log.error("cannot start", why=str(error))
        return 1
    if service.certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, _renew, service.certificate)
    seat.line.send(json.dumps({"addresses": service.addresses, "admin": service.admin_address}).encode())
    loop.add_reader(seat.line, stop.set)  # it says nothing: it can only end
    await stop.wait()
    loop.remove_reader(seat.line)
    await service.stop()
    return 0


def _tell_of_hangup() -> None:
    _log.warning("SIGHUP is ignored: a config is not read again; restart the service to change it")


def _renew(certificate: Certificate) -> None:
    _log.info("SIGHUP: the certificate is read again; for the rest of the config, restart the service")
    certificate.renew()


def _notify(state: str) -> None:
    """Tell the service manager (sd_notify(3)); nothing where there is none."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
        sock.send(state.encode())
