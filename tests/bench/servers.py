"""The servers side by side: each a tree of processes, all on one core and before one origin."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import TypeVar
from urllib.request import urlopen

import trustme
import yaml
from prometheus_client.parser import text_string_to_metric_families

from proxy.config.model import Server as ServerSection
from tests.bench.figures import Missing
from tests.bench.load import anybody
from tests.bench.machine import pin, program, tree
from tests.bench.stage import adapter_config

OURS = "range-adapter"
NGINX = "nginx"
TUNED = "nginx, open_file_cache"
BUFFERED = "nginx, and log buffered"
VARNISH = "Varnish"
TWO_WORKERS = "range-adapter, two workers"
T = TypeVar("T")
PAGE = os.sysconf("SC_PAGE_SIZE")

# No tcp_nopush: on a loopback interface, whose segments have 64 KiB, it makes answers of that size wait for 40 ms.
NGINX_CONFIG = """\
{user}daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log {folder}/access.log combined{log};
  sendfile on;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:16m max_size=16g inactive=1d use_temp_path=off;
  {more}
  upstream legacy {{ server 127.0.0.1:{origin}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{
      proxy_pass http://legacy;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache bench;
      proxy_cache_lock on;
      proxy_force_ranges on;
    }}
  }}
}}
"""
BUFFER = " buffer=64k flush=1s"
OPEN_FILES = "open_file_cache max=10000 inactive=1h; open_file_cache_valid 1h;"

# Without the last line it would not look a request up that brings a Cookie.
VARNISH_CONFIG = """\
vcl 4.1;
backend legacy {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{ unset req.http.Cookie; }}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs.  `roots`: what was started for it; `files`: where its objects are, if not in memory;
    `tls`: the port where it speaks TLS, `admin`: the one that its metrics are read from, if it has any.
    """

    name: str
    port: int
    roots: Sequence[int]
    files: Path | None
    tls: int | None = None
    admin: int | None = None

    @property
    def processes(self) -> list[int]:
        """All that belong to it now."""
        return [process for root in self.roots for process in tree(root)]

    def get(
        self, target: str, fields: dict[str, str], *, tls: bool = False
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, fields (lower case) and body of one answer."""
        connection: HTTPConnection
        if tls:
            assert self.tls is not None
            connection = HTTPSConnection("127.0.0.1", self.tls, timeout=120, context=anybody())
        else:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("GET", target, headers=fields)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def metric(self, name: str) -> float | None:
        """The sum of a metric over all its labels; None where there is no such metric."""
        if self.admin is None:
            return None
        with urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=120) as answer:
            text = answer.read().decode()
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        found = [each.value for each in samples if each.name == name]
        return sum(found) if found else None

    def resident(self) -> int:
        """Bytes of memory that its processes have now."""
        pages = (int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in self.processes)
        return sum(pages) * PAGE

    def file_of(self, size: int) -> Path:
        """That of the one object that has about this size."""
        assert self.files is not None
        found = [path for path in self.files.rglob("*") if path.is_file()]
        return next(path for path in found if size <= path.stat().st_size < size + 65536)


Start = Callable[[Sequence[str], Path], subprocess.Popen[bytes]]
"""A command, and the file that it writes to: its process."""

Settings = Mapping[str, Mapping[str, object]]
"""Sections of the adapter's config, and what their keys are instead."""


@contextmanager
def running(
    core: int | None, origins: int | None, folder: Path
) -> Iterator[tuple[dict[str, Server], dict[str, Missing]]]:
    """All that are installed, on one core, with the origin on another; and why the rest is not there.

    They end with the context.
    """
    with ExitStack() as stack:
        start = _starter(stack, core)
        port = _origin(stack, origins)
        servers, missing = dict[str, Server](), dict[str, Missing]()
        pems = _certificate(folder)
        starters: list[tuple[str, str, Callable[[Path, int, Start], Server]]] = [
            (OURS, sys.executable, partial(_adapter, pems=pems)),
            (NGINX, "nginx", partial(_nginx, name=NGINX, pems=pems)),
            (TUNED, "nginx", partial(_nginx, name=TUNED, pems=pems, more=OPEN_FILES)),
            (BUFFERED, "nginx", partial(_nginx, name=BUFFERED, pems=pems, more=OPEN_FILES, log=BUFFER)),
            (VARNISH, "varnishd", _varnish),
        ]
        if "workers" in ServerSection.model_fields:
            starters.append((TWO_WORKERS, sys.executable, partial(_adapter, workers=2)))
        else:
            missing[TWO_WORKERS] = Missing("this version has one process")
        for number, (name, needs, starter) in enumerate(starters):
            if program(needs) is None:
                missing[name] = Missing(f"{needs} is not installed")
                continue
            own = folder / str(number)
            own.mkdir()
            try:
                servers[name] = starter(own, port, start)
            except RuntimeError as error:
                missing[name] = Missing(str(error))
        yield servers, missing


@contextmanager
def alone(
    folder: Path,
    *,
    under: Sequence[str] = (),
    settings: Settings | None = None,
    tls: bool = False,
    workers: int | None = None,
) -> Iterator[Server]:
    """The adapter only, on any core: run by another program, with other `settings`, with TLS if it has that."""
    pems = _certificate(folder) if tls else None
    with ExitStack() as stack:
        yield _adapter(folder, _origin(stack, None), _starter(stack, None), under, settings, pems, workers)


def _starter(stack: ExitStack, core: int | None) -> Start:
    """Starts processes on that core; they end with the stack."""

    def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, preexec_fn=lambda: pin(os.getpid(), core)
            )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        return process

    return start


def _origin(stack: ExitStack, core: int | None) -> int:
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-m", "tests.bench.origin"], stdout=subprocess.PIPE)
    )
    stack.callback(process.terminate)
    pin(process.pid, core)
    assert process.stdout is not None
    return int(process.stdout.readline())


@dataclass(frozen=True, slots=True)
class Pems:
    """A certificate for this machine and its key, as files."""

    certificate: Path
    key: Path


def _certificate(folder: Path) -> Pems:
    pems = Pems(folder / "certificate.pem", folder / "key.pem")
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(pems.key)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(pems.certificate, append=number > 0)
    return pems


def _adapter(
    folder: Path,
    origin: int,
    start: Start,
    under: Sequence[str] = (),
    settings: Settings | None = None,
    pems: Pems | None = None,
    workers: int | None = None,
) -> Server:
    config, log = folder / "config.yaml", folder / "log"
    sections = adapter_config(str(folder), origin)
    for name, keys in (settings or {}).items():
        sections[name] = {**sections[name], **keys}
    addresses = [f"127.0.0.1:{0 if workers is None else _free_port()}"]
    if pems is not None and "tls" in ServerSection.model_fields:
        addresses.append(f"https://127.0.0.1:{0 if workers is None else _free_port()}")
        sections["server"]["tls"] = {"certificate": str(pems.certificate), "key": str(pems.key)}
    sections["server"]["listen"] = addresses
    if workers is not None:
        sections["server"]["workers"] = workers
    config.write_text(yaml.safe_dump(sections))
    process = start([*under, sys.executable, "-m", "proxy", "serve", str(config)], log)

    def ports() -> list[int] | None:
        for line in log.read_text().splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "serving":
                return [_port(url) for url in (event["admin"], *event["addresses"])]
        return None

    admin, port, *more = _wait(OURS, process, log, ports)
    name, tls = OURS if workers is None else TWO_WORKERS, more[0] if more else None
    return Server(name, port, [process.pid], folder / "spool", tls, admin)


def _port(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


def _nginx(
    folder: Path, origin: int, start: Start, *, name: str, pems: Pems, more: str = "", log: str = ""
) -> Server:
    port, tls, config, errors = _free_port(), _free_port(), folder / "nginx.conf", folder / "error.log"
    values = {
        "user": "user root;\n" if os.geteuid() == 0 else "",  # another could not enter the folder
        "folder": folder,
        "origin": origin,
        "port": port,
        "tls": tls,
        "certificate": pems.certificate,
        "key": pems.key,
        "more": more,
        "log": log,
    }
    config.write_text(NGINX_CONFIG.format(**values))
    nginx = program("nginx")
    assert nginx is not None
    process = start([nginx, "-p", str(folder), "-e", str(errors), "-c", str(config)], folder / "log")
    _wait(name, process, errors, lambda: _listens(port))
    return Server(name, port, [process.pid], folder / "cache", tls)


def _varnish(folder: Path, origin: int, start: Start) -> Server:
    port, config, log = _free_port(), folder / "bench.vcl", folder / "log"
    config.write_text(VARNISH_CONFIG.format(origin=origin))
    varnishd, shared = program("varnishd"), str(folder / "varnish")
    assert varnishd is not None
    where = ["-j", "none", "-n", shared, "-F", "-f", str(config), "-a", f"127.0.0.1:{port}"]
    process = start([varnishd, *where, "-s", "malloc,3G", "-t", "86400"], log)
    _wait(VARNISH, process, log, lambda: _listens(port))
    roots = [process.pid]
    if varnishncsa := shutil.which("varnishncsa"):  # its access log is a process of its own
        roots.append(
            start([varnishncsa, "-n", shared, "-w", str(folder / "access.log")], folder / "ncsa").pid
        )
    return Server(VARNISH, port, roots, None)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _listens(port: int) -> int | None:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return None
    return port


def _wait(name: str, process: subprocess.Popen[bytes], log: Path, ready: Callable[[], T | None]) -> T:
    """Until it listens.  RuntimeError: it ended, or does not within two minutes."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if found := ready():
            return found
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    raise RuntimeError(f"{name} does not start: {said[-1] if said else 'it says nothing'}")
