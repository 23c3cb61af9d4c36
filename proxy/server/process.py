"""The service as a process: its signals, its limits, its log, and what its manager hears."""

import asyncio
import os
import resource
import signal
import socket
from contextlib import suppress

import structlog

from proxy.config import Config
from proxy.errors import AdapterError
from proxy.server import logs, memory
from proxy.server.app import start
from proxy.server.tls import Certificate

_log = structlog.stdlib.get_logger("service")


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the process' exit status."""
    listener = logs.configure(level=config.logging.level, style=config.logging.format)
    _raise_descriptor_limit()
    memory.keep()
    status = 1
    try:
        status = asyncio.run(_serve(config))
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
