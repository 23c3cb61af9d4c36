"""The config: what it means when it is right, and every message, with its place, when it is not."""

import errno
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Config, ConfigError, Document, from_flags, load, parse, read, with_flags
from proxy.config.addresses import OriginUrl, TcpAddress, UnixAddress
from proxy.config.document import read_text
from proxy.config.ground import problems as ground_problems
from proxy.config.model import schema
from proxy.config.scalars import Duration, Size
from proxy.semantics.fields import HOP_BY_HOP
from proxy.semantics.key import WITHHELD

ENV = {"HOME": "/home/ada", "PORT": "8099", "EMPTY": ""}
ORIGIN = "origins: {a: {url: 'http://a:8000'}}\n"
EXAMPLE = Path(__file__).parent.parent / "config.yaml"


def config(text: str, **env: str) -> Config:
    return parse(read_text(text, "config.yaml", {**ENV, **env}), {**ENV, **env})


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(text)
    return str(caught.value).splitlines()


# What is right


def test_the_smallest_config_is_complete() -> None:
    settings = config(ORIGIN)
    assert settings.server.listen == (TcpAddress("127.0.0.1", 8080),)
    assert settings.admin.listen == TcpAddress("127.0.0.1", 9090)
    assert settings.spool.path == "/home/ada/.cache/range-adapter"
    assert settings.spool.max_size == 10 * 1024**3
    assert settings.server.timeouts.send_idle == 60.0
    [route] = settings.routes
    assert (route.name, route.origin, route.mode) == ("all", "a", "adapt")


def test_the_example_reads_and_shows_the_defaults() -> None:
    settings = load(str(EXAMPLE), ENV)
    plain = config(ORIGIN)
    for section in ("server", "admin", "spool", "defaults", "logging"):
        assert getattr(settings, section) == getattr(plain, section), section
    assert settings.origins["media"].timeouts == plain.origins["a"].timeouts
    assert [route.name for route in settings.routes] == ["admin-pages", "films", "documents", "rest"]


def test_values_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(config(ORIGIN).server, "name", "other")  # noqa: B010


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"CACHE_DIRECTORY": "/var/cache/ra"}, "/var/cache/ra"),
        ({"CACHE_DIRECTORY": "/var/cache/ra:/var/cache/other"}, "/var/cache/ra"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/range-adapter"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/ada/.cache/range-adapter"),
    ],
)
def test_where_the_spool_is_by_default(env: dict[str, str], folder: str) -> None:
    assert config(ORIGIN, **env).spool.path == folder
    assert config(ORIGIN + "spool: {path: /srv/spool}", **env).spool.path == "/srv/spool"


@pytest.mark.parametrize(
    ("keys", "fills", "of_one_client"),
    [
        ("", 24, 16),
        (", max_connections: 8", 6, 4),
        (", max_connections: 1", 1, 1),
        (", max_fills: 9", 9, 6),
        (", max_fills: 9, fills_per_client: 9", 9, 9),
        (", max_fills: null, fills_per_client: null", 24, 16),
    ],
)
def test_one_client_cannot_have_all_fills_by_default(keys: str, fills: int, of_one_client: int) -> None:
    origin = config(f"origins: {{a: {{url: 'http://a'{keys}}}}}").origins["a"]
    assert (origin.fills, origin.client_fills) == (fills, of_one_client)


def test_an_object_may_fill_a_small_spool() -> None:
    assert config(ORIGIN + "spool: {max_size: 1GiB}").spool.max_object_size == 1024**3


@pytest.mark.parametrize(
    ("text", "size", "printed"),
    [
        ("0B", 0, "0B"),
        ("80B", 80, "80B"),
        ("64kB", 64_000, "64kB"),
        ("500MB", 500_000_000, "500MB"),
        ("1.5GiB", 1_610_612_736, "1536MiB"),
        ("10 GiB", 10_737_418_240, "10GiB"),
        ("2TB", 2_000_000_000_000, "2TB"),
    ],
)
def test_sizes(text: str, size: int, printed: str) -> None:
    assert Size.read(text) == size
    assert str(Size.read(text)) == printed


@pytest.mark.parametrize(
    ("text", "seconds", "printed"),
    [
        ("0s", 0.0, "0s"),
        ("250ms", 0.25, "250ms"),
        ("30s", 30.0, "30s"),
        ("1h30m", 5400.0, "1h30m"),
        ("1d", 86_400.0, "24h"),
        ("2w", 1_209_600.0, "336h"),
    ],
)
def test_durations(text: str, seconds: float, printed: str) -> None:
    assert Duration.read(text) == seconds
    assert str(Duration.read(text)) == printed


@given(st.integers(0, 2**63 - 1))
def test_a_size_reads_what_it_prints(number: int) -> None:
    assert Size.read(str(Size(number))) == number


@given(st.integers(0, 10**8))
def test_a_duration_reads_what_it_prints(seconds: int) -> None:
    assert Duration.read(str(Duration(seconds))) == float(seconds)


def test_addresses() -> None:
    settings = config(ORIGIN + "server: {listen: ['LocalHost:80', '[::1]:0', 'unix:/run/a.sock']}")
    assert settings.server.listen == (
        TcpAddress("localhost", 80),
        TcpAddress("::1", 0),
        UnixAddress("/run/a.sock"),
    )
    assert list(map(str, settings.server.listen)) == ["localhost:80", "[::1]:0", "unix:/run/a.sock"]
    assert config(ORIGIN + "admin: {listen: null}").admin.listen is None


TLS = "tls: {certificate: /c.pem, key: /k.pem}"


def test_tls_and_plain_addresses() -> None:
    server = config(
        f"{ORIGIN}server: {{listen: ['0.0.0.0:80', 'https://0.0.0.0:443', 'HTTPS://[::1]:8443/'], {TLS}}}"
    ).server
    assert server.listen == (
        TcpAddress("0.0.0.0", 80),
        TcpAddress("0.0.0.0", 443, tls=True),
        TcpAddress("::1", 8443, tls=True),
    )
    assert list(map(str, server.listen)) == ["0.0.0.0:80", "https://0.0.0.0:443", "https://[::1]:8443"]
    assert server.tls is not None
    assert (server.tls.certificate, server.tls.key) == ("/c.pem", "/k.pem")


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            "listen: 'https://0.0.0.0:443'",
            (
                "2:18 server.listen[0]: https://0.0.0.0:443 needs a certificate; "
                "write  server: {tls: {certificate: FILE, key: FILE}}"
            ),
        ),
        (
            TLS,
            (
                "2:15 server.tls: is for listeners given as https://, and there is none; "
                "write  listen: https://0.0.0.0:8443"
            ),
        ),
        (
            "listen: 'https://a:1', tls: {certificate: x}",
            "2:38 server.tls.key: is missing; write its file, such as  key: /etc/range-adapter/tls/privkey.pem",
        ),
        (
            "listen: 'https://a:1', tls: {ssl_certificate: x, key: y, certificate: z}",
            "2:39 server.tls.ssl_certificate: unknown key 'ssl_certificate'; did you mean 'certificate'?",
        ),
        ("listen: 'http://a:1'", "2:18 server.listen: plain HTTP takes no scheme; write a:1"),
        (
            "listen: 'spdy://a:1'",
            "2:18 server.listen: cannot listen for spdy://; write https://0.0.0.0:8443, or host and port alone",
        ),
        (
            "listen: 'https://unix:/run/a'",
            "2:18 server.listen: a Unix socket takes no TLS; write it without https://",
        ),
        (
            f"listen: ['a:1', 'https://a:1'], {TLS}",
            "2:26 server.listen[1]: https://a:1 is taken by a:1; choose another port",
        ),
    ],
)
def test_faults_of_tls(server: str, message: str) -> None:
    assert faults(f"{ORIGIN}server: {{{server}}}") == [f"config.yaml:{message}"]


def test_the_admin_listener_speaks_no_tls() -> None:
    [fault] = faults(ORIGIN + "admin: {listen: 'https://127.0.0.1:9090'}")
    assert "cannot listen on 'https://127.0.0.1:9090'" in fault


@pytest.mark.parametrize(
    ("text", "url", "authority"),
    [
        ("http://a", OriginUrl("http", "a", 80), "a"),
        ("HTTPS://A.example:443/", OriginUrl("https", "a.example", 443), "a.example"),
        ("http://[::1]:8000/b/c/", OriginUrl("http", "::1", 8000, "/b/c"), "[::1]:8000"),
    ],
)
def test_origin_urls(text: str, url: OriginUrl, authority: str) -> None:
    assert OriginUrl.read(text) == url
    assert url.authority == authority


def test_a_list_of_one_may_be_written_as_its_member() -> None:
    settings = config(ORIGIN + "server: {listen: '127.0.0.1:1', trusted_proxies: 10.0.0.0/8}")
    assert settings.server.listen == (TcpAddress("127.0.0.1", 1),)
    assert list(map(str, settings.server.trusted_proxies)) == ["10.0.0.0/8"]


def test_whoever_comes_by_a_unix_socket_may_be_trusted() -> None:
    settings = config(ORIGIN + "server: {trusted_proxies: [unix, '::1']}")
    assert list(map(str, settings.server.trusted_proxies)) == ["unix", "::1/128"]


def test_a_section_without_keys_has_its_defaults() -> None:
    assert config(ORIGIN + "server:\nspool:\n").server == config(ORIGIN).server


def test_a_route_overrides_defaults_key_by_key() -> None:
    settings = config(ORIGIN + "defaults: {cache: {ttl: 2h, shared: true}}\nroutes: [{cache: {ttl: 1d}}]")
    cache = settings.defaults.cache.overridden_by(settings.routes[0].cache)
    assert (cache.ttl, cache.shared) == (86_400.0, True)
    assert settings.defaults.cache.overridden_by(None) is settings.defaults.cache


def test_environment() -> None:
    text = """
origins: {a: {url: "${URL:-http://a:1}", max_connections: "${MAX:-7}"}}
server: {listen: "127.0.0.1:${PORT}", server_timing: "${TIMING:-true}", name: "${EMPTY:-x}"}
spool:
  max_size: ${SIZE:-5GiB}
routes:
  - match: {path_regex: 'x$'}
"""
    settings = config(text)
    assert str(settings.origins["a"].url) == "http://a:1"
    assert settings.origins["a"].max_connections == 7
    assert settings.server.listen == (TcpAddress("127.0.0.1", 8099),)
    assert settings.server.server_timing is True
    assert settings.server.name == "x"
    assert settings.spool.max_size == 5 * 1024**3
    assert config(text, URL="http://b", SIZE="1GB").spool.max_size == 10**9


def test_the_environment_cannot_bring_structure() -> None:
    text = ORIGIN + "spool:\n  path: ${FOLDER}\n"
    assert config(text, FOLDER="/a: [b] # c").spool.path == "/a: [b] # c"


def test_anchors_and_merge_keys() -> None:
    text = """
origins:
  a: &origin {url: 'http://a', max_connections: 3, timeouts: {connect: 1s}}
  b: {<<: *origin, url: 'http://b'}
  c: {<<: [{url: 'http://c'}, *origin]}
routes:
  - {origin: a, match: {host: a}}
"""
    origins = config(text).origins
    assert [str(origin.url) for origin in origins.values()] == ["http://a", "http://b", "http://c"]
    assert {origin.max_connections for origin in origins.values()} == {3}


def test_a_word_for_a_flag_may_be_on() -> None:
    assert config(ORIGIN + "server: {server_timing: on}").server.server_timing is True


# What is wrong

PLACED = [
    # Sizes and durations
    ("spool: {max_size: 10g}", "1:19 spool.max_size: cannot read '10g' as a size; write 10GiB or 10GB"),
    ("spool: {max_size: 10Gi}", "1:19 spool.max_size: cannot read '10Gi' as a size; write 10GiB"),
    ("spool: {max_size: 10gib}", "1:19 spool.max_size: cannot read '10gib' as a size; write 10GiB"),
    ("spool: {max_size: 64K}", "1:19 spool.max_size: cannot read '64K' as a size; write 64KiB or 64kB"),
    (
        "spool: {max_size: 1024}",
        "1:19 spool.max_size: cannot read '1024' as a size; write 1024B for bytes, or a unit such as 1024MiB",
    ),
    (
        "spool: {max_size: lots}",
        "1:19 spool.max_size: cannot read 'lots' as a size; write a number and a unit, such as 500MB or 10GiB",
    ),
    (
        "spool: {max_size: 3 parsec}",
        (
            "1:19 spool.max_size: cannot read '3 parsec' as a size; "
            "write a unit of B, kB, MB, GB, TB (decimal) or KiB, MiB, GiB, TiB (binary)"
        ),
    ),
    (
        "spool: {max_size: 99999999TiB}",
        "1:19 spool.max_size: '99999999TiB' is more than any disk holds; write 10GiB or 10TiB",
    ),
    ("spool: {max_size: [1]}", "1:19 spool.max_size: expected a single value, not a list"),
    (
        "server: {max_header_size: 10B}",
        "1:27 server.max_header_size: 10B is too small; write 1KiB or more",
    ),
    (
        "server: {max_header_size: 2MiB}",
        "1:27 server.max_header_size: 2MiB is too large; write 1MiB or less",
    ),
    ("defaults: {cache: {ttl: 30}}", "1:25 defaults.cache.ttl: cannot read '30' as a duration; write 30s"),
    ("defaults: {cache: {ttl: 1.5}}", "1:25 defaults.cache.ttl: cannot read '1.5' as a duration; write 1.5s"),
    ("defaults: {cache: {ttl: 5min}}", "1:25 defaults.cache.ttl: cannot read '5min' as a duration; write 5m"),
    (
        "defaults: {cache: {ttl: 5 days}}",
        "1:25 defaults.cache.ttl: cannot read '5 days' as a duration; write 5d",
    ),
    (
        "defaults: {cache: {ttl: '12:30'}}",
        "1:25 defaults.cache.ttl: cannot read '12:30' as a duration; write 12m30s or 12h30m",
    ),
    (
        "defaults: {cache: {ttl: -5s}}",
        (
            "1:25 defaults.cache.ttl: cannot read '-5s' as a duration; "
            "write a number and a unit, such as 30s, 1h30m or 1d"
        ),
    ),
    (
        "defaults: {cache: {ttl: 99999999d}}",
        "1:25 defaults.cache.ttl: '99999999d' is longer than a hundred years; write 365d or less",
    ),
    (
        "server: {timeouts: {send_idle: 0s}}",
        "1:32 server.timeouts.send_idle: '0s' leaves no time at all; write 30s",
    ),
    # What YAML 1.1 makes of plain words and numbers
    ("server: {name: off}", "1:16 server.name: YAML reads off without quotes as false; put it in quotes"),
    ("server: {name: Yes}", "1:16 server.name: YAML reads Yes without quotes as true; put it in quotes"),
    ("server: {name: 5}", "1:16 server.name: expected text, and YAML reads 5 as a number; put it in quotes"),
    (
        "server: {timeouts: {drain: 12:30}}",
        "1:28 server.timeouts.drain: YAML reads 12:30 as the number 750, in base 60; put it in quotes",
    ),
    (
        "defaults: {ranges: {max: 010}}",
        "1:26 defaults.ranges.max: YAML reads 010 as the number 8, in base 8; write 10, or put it in quotes",
    ),
    ("logging: {level: !!int x}", "1:18 logging.level: cannot read 'x' as a value of the tag !!int"),
    ("logging: {level: !level x}", "1:18 logging.level: the tag !level means nothing here; take it out"),
    (
        "logging: {level: !!binary aGk=}",
        "1:18 logging.level: the tag !!binary means nothing here; take it out",
    ),
    # Flags, numbers, words
    ("logging: {access: maybe}", "1:19 logging.access: expected true or false, not 'maybe'"),
    (
        "logging: {level: loud}",
        "1:18 logging.level: expected 'debug', 'info', 'warning' or 'error', not 'loud'",
    ),
    (
        "logging: {level: off}",
        "1:18 logging.level: expected 'debug', 'info', 'warning' or 'error', not 'off'",
    ),
    (
        "logging: {level:  }",
        "1:17 logging.level: expected 'debug', 'info', 'warning' or 'error', not nothing",
    ),
    ("version: 2", "1:10 version: expected 1, not '2'"),
    ("defaults: {ranges: {max: many}}", "1:26 defaults.ranges.max: expected a whole number, not 'many'"),
    (
        "defaults: {ranges: {max: -1}}",
        "1:26 defaults.ranges.max: -1 is out of bounds; write a number from 0 to 10000",
    ),
    (
        "server: {name: a b}",
        "1:16 server.name: 'a b' is not one plain word; write letters, digits, dots and dashes",
    ),
    ("server: {name: ''}", "1:16 server.name: must not be empty"),
    ('spool: {path: "a\\nb"}', "1:15 spool.path: 'a\\nb' has characters that cannot be printed"),
    # Keys and shapes
    ("server: {timeots: {}}", "1:10 server.timeots: unknown key 'timeots'; did you mean 'timeouts'?"),
    ("sever: {}", "1:1 sever: unknown key 'sever'; did you mean 'server'?"),
    ("upstreams: {}", "1:1 upstreams: unknown key 'upstreams'; did you mean 'origins'?"),
    (
        "routes: [{proxy_pass: a}]",
        "1:11 routes[0].proxy_pass: unknown key 'proxy_pass'; did you mean 'origin'?",
    ),
    (
        "routes: [{cache: {max-age: 5}}]",
        "1:19 routes[0].cache.max-age: unknown key 'max-age'; did you mean 'ttl'?",
    ),
    (
        "max_object_size: 1GiB",
        "1:1 max_object_size: unknown key 'max_object_size' here; it belongs to spool",
    ),
    (
        "server: {ttl: 1h}",
        (
            "1:10 server.ttl: unknown key 'ttl' here; it belongs to defaults.cache or "
            "defaults.cache.authorize or routes[0].cache or routes[0].cache.authorize"
        ),
    ),
    ("admin: {zzz: 1}", "1:9 admin.zzz: unknown key 'zzz'; known here: listen, token"),
    ("server: 5", "1:9 server: expected a mapping with keys of its own, not '5'"),
    ("server: {timeouts: [1]}", "1:20 server.timeouts: expected a mapping with keys of its own, not a list"),
    ("routes: {a: 1}", "1:9 routes: expected a list, not a mapping"),
    ("server: {listen: []}", "1:18 server.listen: must have at least one member"),
    ("server: {listen: {a: 1}}", "1:18 server.listen: expected a list, not a mapping"),
    ("server: {name: a, name: b}", "1:19 server.name: stands here twice; the first is on line 1"),
    ("server: {[a]: b}", "1:10 server: a key is one plain word, not a list or a mapping"),
    ("server: {<<: 5}", "1:10 server.'<<': merges mappings only; write <<: *anchor"),
    # Addresses
    (
        "server: {listen: [8080]}",
        (
            "1:19 server.listen[0]: '8080' names no host; "
            "write 127.0.0.1:8080 (this machine only) or 0.0.0.0:8080 (everyone)"
        ),
    ),
    (
        "server: {listen: ['a b:1']}",
        (
            "1:19 server.listen[0]: cannot listen on 'a b:1'; "
            "write 127.0.0.1:8080, [::1]:8080 or unix:/run/range-adapter.sock"
        ),
    ),
    (
        "server: {listen: ['a:99999']}",
        "1:19 server.listen[0]: '99999' in 'a:99999' is not a port; ports are numbers up to 65535",
    ),
    (
        "server: {listen: [/run/a.sock]}",
        "1:19 server.listen[0]: cannot listen on '/run/a.sock'; write unix:/run/a.sock for a Unix socket",
    ),
    (
        "server: {listen: ['unix:a.sock']}",
        "1:19 server.listen[0]: 'unix:a.sock' is not an absolute path; write unix:/run/range-adapter.sock",
    ),
    (
        f"server: {{listen: ['unix:/{'a' * 107}']}}",
        "1:19 server.listen[0]: a Unix socket's path has at most 107 bytes; choose a shorter one",
    ),
    (
        "server: {listen: ['127.0.0.1:1', '0.0.0.0:1']}",
        "1:34 server.listen[1]: 0.0.0.0:1 is taken by 127.0.0.1:1; choose another port",
    ),
    (
        "admin: {listen: '127.0.0.1:8080'}",
        "1:17 admin.listen: 127.0.0.1:8080 is taken by 127.0.0.1:8080; choose another port",
    ),
    (
        "server: {trusted_proxies: [10.0.0.1/8]}",
        "1:28 server.trusted_proxies[0]: '10.0.0.1/8' is an address inside a network; write 10.0.0.0/8",
    ),
    (
        "server: {trusted_proxies: [nginx]}",
        "1:28 server.trusted_proxies[0]: 'nginx' is not a network; write 10.0.0.0/8, 192.0.2.7, ::1 or unix",
    ),
    (
        "spool: {max_size: 1GiB, max_object_size: 2GiB}",
        "1:42 spool.max_object_size: 2GiB is more than the spool holds; write max_size, 1GiB, or less",
    ),
    (
        "server: {max_header_size: 16KiB, limits: {head_size: 8KiB}}",
        (
            "1:54 server.limits.head_size: 8KiB is less than one field may have; "
            "write max_header_size, 16KiB, or more"
        ),
    ),
    (
        "server: {limits: {connections: 0}}",
        "1:32 server.limits.connections: 0 is out of bounds; write a number from 1 to 1000000",
    ),
    # Routes
    ("routes: [{origin: b}]", "1:19 routes[0].origin: there is no origin 'b'; known: a"),
    (
        "routes: [{match: {path_regex: 'a['}}]",
        (
            "1:31 routes[0].match.path_regex: cannot read 'a[' as a regular expression: "
            "unterminated character set at character 2"
        ),
    ),
    (
        "routes: [{match: {path_regex: 'a{99999999999}'}}]",
        "1:31 routes[0].match.path_regex: the regular expression is too large",
    ),
    (
        "routes: [{match: {path_prefix: films}}]",
        "1:32 routes[0].match.path_prefix: 'films' does not start with a slash; write /films",
    ),
    (
        "routes: [{match: {path_prefix: '/a?b'}}]",
        "1:32 routes[0].match.path_prefix: '/a?b' has more than a path; write the part before the ? or #",
    ),
    (
        "routes: [{match: {path_prefix: /a/%2E./b}}]",
        "1:32 routes[0].match.path_prefix: '/a/%2E./b' has dot segments; write the path that they lead to",
    ),
    (
        "routes: [{match: {host: 'http://a'}}]",
        (
            "1:25 routes[0].match.host: 'http://a' is not a host; "
            "write media.example.com, or *.example.com for all below it"
        ),
    ),
    (
        "routes: [{match: {methods: [get]}}]",
        "1:29 routes[0].match.methods[0]: methods are written in capitals; write GET",
    ),
    (
        "routes: [{mode: cache}]",
        "1:17 routes[0].mode: expected 'adapt', 'passthrough' or 'deny', not 'cache'",
    ),
    (
        "routes: [{cors: {allow_origins: [app.example.com]}}]",
        (
            "1:34 routes[0].cors.allow_origins[0]: 'app.example.com' is not a web origin; "
            "write * or https://app.example.com, lower case, without a path"
        ),
    ),
    (
        "routes: [{cache: {media_types: video}}]",
        "1:32 routes[0].cache.media_types: 'video' is not a media type; write video/mp4 or video/*",
    ),
    (
        "routes: [{cache: {key: [path, cookie]}}]",
        "1:31 routes[0].cache.key[1]: expected 'host', 'path' or 'query', not 'cookie'",
    ),
    # Environment
    (
        "spool: {path: '${NOWHERE}/x'}",
        "1:15 spool.path: the environment has no NOWHERE; set it, or write ${NOWHERE:-default}",
    ),
    ("spool: {path: '${EMPTY:?say where}'}", "1:15 spool.path: from the environment: EMPTY: say where"),
    (
        "spool: {path: '${EMPTY^^}'}",
        "1:15 spool.path: cannot read '${EMPTY^^}'; write ${NAME}, ${NAME:-default} or ${NAME:?message}",
    ),
    (
        "spool: {path: '${EMPTY'}",
        "1:15 spool.path: cannot read '${EMPTY'; write ${NAME}, ${NAME:-default} or ${NAME:?message}",
    ),
]


@pytest.mark.parametrize(("text", "message"), PLACED, ids=lambda text: str(text)[:60])
def test_one_fault(text: str, message: str) -> None:
    assert faults(f"{text}\n{ORIGIN}") == [f"config.yaml:{message}"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("legacy:8000", "'legacy:8000' has no scheme; write http://legacy:8000"),
        ("//legacy", "'//legacy' has no scheme; write http://legacy"),
        ("ftp://legacy", "cannot fetch from ftp://; write http:// or https://"),
        ("http://u:secret@a/?q", "must not hold a user or a password, which logs would show; take it out"),
        ("http://a/?q=1", "'http://a/?q=1' has more than a path; write the part before the ? or #"),
        ("http://a/b/../c", "'http://a/b/../c' has dot segments; write the path that they lead to"),
        ("http://a/b/%2e%2E", "'http://a/b/%2e%2E' has dot segments; write the path that they lead to"),
        ("http:///x", "'http:///x' names no host; write http://legacy.internal:8000"),
        ("http://a b/", "'http://a b/' has characters that no URL has; percent-encode them"),
        ("http://a:99999", "cannot read 'http://a:99999' as a URL: Port out of range 0-65535"),
        ("http://[::1", "cannot read 'http://[::1' as a URL: Invalid IPv6 URL"),
        (
            "http://127.0.0.1:8080/x",
            "http://127.0.0.1:8080/x is where range-adapter itself listens; name the server behind it",
        ),
        (
            "http://localhost:9090",
            "http://localhost:9090 is where range-adapter itself listens; name the server behind it",
        ),
    ],
)
def test_origin_url_faults(url: str, message: str) -> None:
    assert faults(f"origins: {{a: {{url: '{url}'}}}}") == [f"config.yaml:1:20 origins.a.url: {message}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "1:1 the file is empty; the smallest config is:  origins: {legacy: {url: 'http://127.0.0.1:8000'}}",
        ),
        (
            "# nothing\n",
            "1:1 the file is empty; the smallest config is:  origins: {legacy: {url: 'http://127.0.0.1:8000'}}",
        ),
        ("- a\n", "1:1 expected keys such as origins: and routes: at the beginning of lines"),
        ("server:\n\tname: x\n", "2:1 there is a tab; YAML is indented with spaces only"),
        (
            "server: name: x\n",
            "1:13 there is a colon too many; indent the line like its neighbours, or put the text in quotes",
        ),
        (
            "a: {path: ${X}}\n",
            "1:12 cannot read this as YAML: expected ',' or '}', but got '{'; put ${...} in quotes",
        ),
        ("a: *b\n", "1:4 cannot read this as YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "2:1 cannot read this as YAML: but found another document"),
        ("a: b\n  \x00", "2:3 has a character that no text file has (U+0000); take it out"),
        (
            "server: {}\n",
            (
                "1:1 origins: is missing; write at least one origin, such as  "
                "origins: {legacy: {url: 'http://127.0.0.1:8000'}}"
            ),
        ),
        (
            "origins:\n  a: {host: preserve}\n",
            "2:6 origins.a.url: is missing; write where the origin is, such as  url: http://legacy.internal:8000",
        ),
        (
            "origins: {a b: {url: 'http://a'}}",
            "1:11 origins.'a b': 'a b' is not one plain word; write letters, digits, dots and dashes",
        ),
        ("origins: {}", "1:10 origins: must have at least one member"),
        (
            "origins:\n  a: {url: 'http://a'}\n  b: {url: 'http://b'}\n",
            "1:1 routes: is missing; with 2 origins, say which requests go where",
        ),
        (
            "origins: {a: {url: 'http://a'}, b: {url: 'http://b'}}\nroutes:\n  - name: x\n",
            "3:5 routes[0].origin: is missing; write one of a, b",
        ),
        (
            "origins: {media: {url: 'http://a'}, b: {url: 'http://b'}}\nroutes:\n  - origin: meda\n",
            "3:13 routes[0].origin: there is no origin 'meda'; did you mean 'media'?",
        ),
        (
            "origins: {a: {url: 'http://a', max_connections: 8, max_fills: 9}}",
            "1:63 origins.a.max_fills: 9 is more than max_connections (8); raise that, or lower this",
        ),
        (
            "origins: {a: {url: 'http://a', max_connections: 8, fills_per_client: 7}}",
            "1:70 origins.a.fills_per_client: 7 is more than max_fills (6); raise that, or lower this",
        ),
    ],
)
def test_faults_of_the_whole(text: str, message: str) -> None:
    assert faults(text) == [f"config.yaml:{message}"]


def test_all_faults_come_at_once_in_the_order_of_lines() -> None:
    text = """\
routes:
  - match: {path_regex: "("}
    origin: nobody
    cache:
      ttl: 30
spool:
  max_size: 1GiB
  max_object_size: 2GiB
  max_size: 010
origins:
  a: {url: a}
"""
    assert faults(text) == [
        (
            "config.yaml:2:25 routes[0].match.path_regex: cannot read '(' as a regular expression: "
            "missing ), unterminated subpattern at character 1"
        ),
        "config.yaml:3:13 routes[0].origin: there is no origin 'nobody'; known: a",
        "config.yaml:5:12 routes[0].cache.ttl: cannot read '30' as a duration; write 30s",
        "config.yaml:8:20 spool.max_object_size: 2GiB is more than the spool holds; write max_size, 1GiB, or less",
        "config.yaml:9:3 spool.max_size: stands here twice; the first is on line 7",
        "config.yaml:11:12 origins.a.url: 'a' has no scheme; write http://a",
    ]


@pytest.mark.parametrize(
    ("earlier", "later", "shadowed"),
    [
        ("", "path_prefix: /a", True),
        ("path_prefix: /", "host: h", True),
        ("path_prefix: /a", "path_prefix: /a/b", True),
        ("path_prefix: /a/", "path_prefix: /a", True),
        ("path_prefix: /a", "path_prefix: /ab", False),
        ("path_prefix: /a/b", "path_prefix: /a", False),
        ("path_prefix: /a", "", False),
        ("path_regex: x", "path_regex: x, path_prefix: /b", True),
        ("path_regex: x", "path_regex: y", False),
        ("path_regex: x", "path_prefix: /x", False),
        ("host: h", "host: H., path_prefix: /a", True),
        ("host: h", "path_prefix: /a", False),
        ("host: [h, i]", "host: i", True),
        ("host: h", "host: [h, i]", False),
        ("host: '*.h'", "host: a.h", True),
        ("host: '*.h'", "host: '*.a.h'", True),
        ("host: '*.h'", "host: h", False),
        ("host: h", "host: 'h:80'", True),
        ("host: 'h:80'", "host: h", False),
        ("methods: [GET]", "methods: [HEAD]", True),
        ("methods: [GET]", "methods: [GET, POST]", False),
        ("methods: [GET]", "", False),
    ],
)
def test_a_route_that_can_never_match_is_a_fault(earlier: str, later: str, shadowed: bool) -> None:
    text = f"{ORIGIN}routes:\n  - {{name: first, match: {{{earlier}}}}}\n  - match: {{{later}}}\n"
    if shadowed:
        message = "can never match: routes[0] (first) takes all that it would; move it up or take it out"
        assert faults(text) == [f"config.yaml:4:5 routes[1]: {message}"]
    else:
        assert len(config(text).routes) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "Cookie",
            "answers to cookies are kept apart already; name in ignore_cookies those that do not count",
        ),
        ("authorization", "answers to credentials are kept apart already; write authorize or shared"),
        ("Host", "it has a word of its own; write host in key"),
        ("Range", "an object is stored whole, and ranges are cut from it; leave it out"),
        ("If-None-Match", "conditions are answered from what is stored; leave it out"),
        ("If-Anything", "conditions are answered from what is stored; leave it out"),
        ("TE", "it speaks of one connection, and the origin never hears it; leave it out"),
        ("Accept-Encoding", "codings are told apart already, by what the origin's Vary says; leave it out"),
        ("Pragma", "it says how an answer may be stored, not which one; leave it out"),
        ("Content-Type", "it speaks of a body, and what is stored is asked for without one; leave it out"),
        (
            "X_Forwarded_Proto",
            "clients can claim anything there; write host in key, or a field that your proxy sets",
        ),
        (
            "X-Original-URL",
            "it can make an origin answer another request than the one in the key; leave it out",
        ),
    ],
)
def test_fields_that_no_key_can_have(name: str, reason: str) -> None:
    text = f"{ORIGIN}defaults:\n  cache:\n    key_fields: [X-Tenant, {name}]\n"
    message = f"{name} cannot be part of a key: {reason}"
    assert faults(text) == [f"config.yaml:4:28 defaults.cache.key_fields[1]: {message}"]


@pytest.mark.parametrize(
    "name", sorted(WITHHELD | HOP_BY_HOP | {"forwarded", "x-real-ip", "proxy", "proxy-x"})
)
def test_no_key_has_a_field_that_the_origin_is_not_told_of(name: str) -> None:
    for spelling in (name, name.upper(), name.replace("-", "_")):
        assert faults(f"{ORIGIN}routes: [{{cache: {{key_fields: {spelling}}}}}]")


def test_other_fields_may_be_in_a_key() -> None:
    cache = config(
        f"{ORIGIN}defaults: {{cache: {{key_fields: [X-Tenant, User-Agent, Iffy]}}}}"
    ).defaults.cache
    assert cache.key_fields == ("X-Tenant", "User-Agent", "Iffy")


HOSTS = """\
origins:
  a: {url: 'http://a', host: preserve}
  b: {url: 'http://b'}
"""


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        ("routes: [{origin: a, cache: {key: path}}]", "routes[0].cache.key"),
        ("routes: [{match: {host: b}, origin: b, cache: {key: path}}, {origin: a}]", None),
        ("routes: [{origin: a, cache: {key: [host, path]}}]", None),
        ("routes: [{origin: a, cache: {key: path}, mode: passthrough}]", None),
        (
            "defaults: {cache: {key: path}}\nroutes: [{match: {host: a}, origin: a, mode: deny}, {origin: b}]",
            None,
        ),
        (
            "defaults: {cache: {key: path}}\nroutes: [{match: {host: b}, origin: b}, {origin: a}]",
            "defaults.cache.key",
        ),
        ("defaults: {cache: {key: path}}\nroutes: [{origin: a, cache: {ttl: 1h}}]", "defaults.cache.key"),
        ("defaults: {cache: {key: path}}\nroutes: [{origin: a, cache: {key: host}}]", None),
        ("defaults: {cache: {key: 7}}\nroutes: [{origin: a}, {origin: b}]", ""),
        ("defaults: {cache: {key: 7}}\nroutes: [{origin: a, cache: {key: path}}]", "routes[0].cache.key"),
    ],
)
def test_the_host_of_one_client_must_not_shape_what_clients_of_all_hosts_get(
    sections: str, place: str | None
) -> None:
    text = HOSTS + sections
    if place is None:
        config(text)
        return
    found = [fault for fault in faults(text) if "preserve" in fault]
    assert [fault.split()[1] for fault in found] == ([f"{place}:"] if place else [])


def test_the_only_origin_is_that_of_every_route() -> None:
    only = "origins: {a: {url: 'http://a', host: preserve}}\ndefaults: {cache: {key: [path, query]}}\n"
    for sections in ("", "routes: [{name: x}]"):
        (fault,) = faults(only + sections)
        assert fault.startswith("config.yaml:2:25 defaults.cache.key: ")


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        ("routes: [{cache: {authorize: origin, shared: true}}]", "routes[0].cache.authorize"),
        ("defaults: {cache: {authorize: origin, shared: yes}}", "defaults.cache.authorize"),
        (
            "defaults: {cache: {shared: true}}\nroutes: [{cache: {authorize: {ttl: 1s}}}]",
            "routes[0].cache.authorize",
        ),
        (
            "defaults: {cache: {authorize: origin}}\nroutes: [{cache: {shared: true}}]",
            "defaults.cache.authorize",
        ),
        ("defaults: {cache: {authorize: origin}}\nroutes: [{cache: {authorize: null, shared: true}}]", None),
        ("defaults: {cache: {authorize: origin, shared: true}}\nroutes: [{cache: {shared: false}}]", None),
        ("routes: [{mode: passthrough, cache: {authorize: origin, shared: true}}]", None),
        ("routes: [{cache: {authorize: origin}}]", None),
    ],
)
def test_what_everybody_may_have_needs_no_yes(sections: str, place: str | None) -> None:
    text = f"{ORIGIN}{sections}"
    if place is None:
        config(text)
        return
    (fault,) = faults(text)
    assert f"{place}: contradicts shared: true" in fault


def test_two_routes_of_one_name() -> None:
    text = f"{ORIGIN}routes:\n  - {{name: x, match: {{host: h}}}}\n  - name: x\n"
    message = "'x' is the name of routes[0] already; choose another"
    assert faults(text) == [f"config.yaml:4:11 routes[1].name: {message}"]


def test_alias_bombs_end_early() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10))
    [message] = faults(f"l0: &l0 [x]\n{levels}\n")
    assert re.fullmatch(r"config.yaml:\d+:\d+ this has more than 20000 values, with its aliases .*", message)
    merges = "\n".join(f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 10)}]}}" for n in range(1, 10))
    [message] = faults(f"l0: &l0 {{x: y}}\n{merges}\n")
    assert "more than 20000 values" in message


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "a: &a {<<: *a}", "a: " + "[" * 100 + "]" * 100, "[" * 50_000]
)
def test_depth_is_limited(text: str) -> None:
    [message] = faults(text)
    assert "nested too deeply" in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def fault(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(str(path), ENV)
        return str(caught.value).removeprefix(str(path))

    missing = tmp_path / "missing.yaml"
    hint = "; name the file to read, or start without one: --origin URL"
    assert fault(missing) == f": cannot be read: {os.strerror(errno.ENOENT)}{hint}"
    assert fault(tmp_path) == f": cannot be read: {os.strerror(errno.EISDIR)}"
    file = tmp_path / "config.yaml"
    file.write_bytes(b"a: b\nname: caf\xe9\n")
    assert fault(file) == ":2:10 is not UTF-8 text (byte 0xe9); save it as UTF-8"
    file.write_bytes("server: {}".encode("utf-16"))
    assert fault(file) == ":1:1 is not UTF-8 text (byte 0xff); save it as UTF-8"
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    assert fault(file) == ": is larger than 1MiB; is it the right file?"
    file.write_bytes(b"\xef\xbb\xbf" + ORIGIN.encode())
    assert load(str(file), ENV).origins["a"].url.host == "a"


# Flags


def test_flags_make_a_config_without_a_file() -> None:
    settings = from_flags(
        "http://a", listen=("127.0.0.1:1", "[::1]:2"), admin="127.0.0.1:3", spool="/s", env=ENV
    )
    assert str(settings.origins["origin"].url) == "http://a"
    assert list(map(str, settings.server.listen)) == ["127.0.0.1:1", "[::1]:2"]
    assert (str(settings.admin.listen), settings.spool.path) == ("127.0.0.1:3", "/s")
    assert [route.origin for route in settings.routes] == ["origin"]


def test_flags_win_over_the_file() -> None:
    document = read_text(ORIGIN + "server: {listen: '127.0.0.1:1', name: n}\nspool:\n", "config.yaml", ENV)
    settings = parse(with_flags(document, origin="http://b", listen=("127.0.0.1:2",), spool="/s"), ENV)
    assert str(settings.origins["a"].url) == "http://b"
    assert (str(settings.server.listen[0]), settings.server.name) == ("127.0.0.1:2", "n")
    assert settings.spool.path == "/s"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"origin": "legacy"}, "--origin: 'legacy' has no scheme; write http://legacy"),
        (
            {"listen": ("127.0.0.1:1", "x")},
            "--listen: cannot listen on 'x'; write 127.0.0.1:8080, [::1]:8080 or unix:/run/range-adapter.sock",
        ),
        (
            {"admin": "127.0.0.1:8080"},
            "--admin: 127.0.0.1:8080 is taken by 127.0.0.1:8080; choose another port",
        ),
        ({"spool": ""}, "--spool: must not be empty"),
    ],
)
def test_faults_of_flags_name_the_flag(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_flags(**{"origin": "http://a", "env": ENV, **flags})
    assert str(caught.value) == message


def test_an_origin_flag_needs_a_single_origin() -> None:
    document = read_text("origins: {a: {url: 'http://a'}, b: {url: 'http://b'}}", "config.yaml", ENV)
    with pytest.raises(
        ConfigError, match=r"^--origin: config.yaml has 2 origins \(a, b\); change the url there$"
    ):
        with_flags(document, origin="http://c")


# The ground


def ground(**sections: Any) -> list[str]:
    value = {"origins": {"a": {"url": "http://a"}}, "admin": {"listen": None}, **sections}
    document = Document("config.yaml", value)
    return str(ConfigError("config.yaml", ground_problems(parse(document, ENV), document))).splitlines()


def test_probes_leave_nothing_behind(tmp_path: Path) -> None:
    new = tmp_path / "a" / "b"
    assert ground(spool={"path": str(new)}, server={"listen": "127.0.0.1:0"}) == []
    assert ground(spool={"path": str(tmp_path)}, server={"listen": f"unix:{tmp_path}/s"}) == []
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        [message] = ground(spool={"path": str(path)}, server={"listen": "127.0.0.1:0"})
        assert message.startswith(f"spool.path: {path} cannot be written to: {os.strerror(errno.ENOTDIR)}")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_spool_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    [message] = ground(spool={"path": str(tmp_path)}, server={"listen": "127.0.0.1:0"})
    assert message.startswith(f"spool.path: {tmp_path} cannot be written to: {os.strerror(errno.EACCES)}")


def test_addresses_that_are_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        spool = {"path": str(tmp_path)}
        advice = "is already in use; stop the other program or choose another port"
        assert ground(spool=spool, server={"listen": [address]}) == [f"server.listen[0]: {address} {advice}"]
        text = f"{ORIGIN}spool: {{path: {tmp_path}}}\nserver:\n  listen: ['127.0.0.1:0', '{address}']\n"
        (tmp_path / "c.yaml").write_text(text)
        document = read(str(tmp_path / "c.yaml"), ENV)
        problems = [p for p in ground_problems(parse(document, ENV), document) if p.key != "admin.listen"]
        assert [(p.line, p.column, p.key) for p in problems] == [(4, 27, "server.listen[1]")]


def test_unix_sockets_that_are_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    spool = {"path": str(tmp_path)}
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(path)
        taken.listen()
        advice = "is already in use; stop the other program or choose another path"
        assert ground(spool=spool, server={"listen": f"unix:{path}"}) == [
            f"server.listen[0]: unix:{path} {advice}"
        ]
    assert ground(spool=spool, server={"listen": f"unix:{path}"}) == []
    (tmp_path / "file").touch()
    [message] = ground(spool=spool, server={"listen": f"unix:{tmp_path}/file"})
    assert message.endswith("is there and is no socket; choose another path")
    [message] = ground(spool=spool, server={"listen": f"unix:{tmp_path}/no/s"})
    assert message.endswith(f"cannot be made: there is no folder {tmp_path}/no")


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    [message] = ground(spool={"path": str(tmp_path)}, server={"listen": "192.0.2.1:8080"})
    assert message.endswith("is no address of this machine; write 0.0.0.0 or [::] for all that it has")


# The certificate


class Pem:
    """A certificate and its key, as files."""

    def __init__(self, folder: Path) -> None:
        self.issued = trustme.CA().issue_cert("localhost")
        self.certificate, self.key = folder / "c.pem", folder / "k.pem"
        self.certificate.write_bytes(self.issued.cert_chain_pems[0].bytes())
        self.key.write_bytes(self.issued.private_key_pem.bytes())

    def faults(self, folder: Path) -> list[str]:
        tls = {"certificate": str(self.certificate), "key": str(self.key)}
        return ground(spool={"path": str(folder)}, server={"listen": "https://127.0.0.1:0", "tls": tls})

    def other_key(self) -> bytes:
        return trustme.CA().issue_cert("localhost").private_key_pem.bytes()

    def locked_key(self) -> bytes:
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )


def test_a_certificate_and_its_key(tmp_path: Path) -> None:
    assert Pem(tmp_path).faults(tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda pem: pem.certificate.unlink(),
            "certificate: {c} is not there; write the path of a file in PEM",
        ),
        (lambda pem: pem.key.unlink(), "key: {k} is not there; write the path of a file in PEM"),
        (
            lambda pem: pem.certificate.write_text("MIIB"),
            "certificate: {c} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)",
        ),
        (
            lambda pem: pem.certificate.write_bytes(pem.key.read_bytes()),
            "certificate: {c} holds a key and no certificate; have the two been swapped?",
        ),
        (
            lambda pem: pem.key.write_bytes(pem.certificate.read_bytes()),
            "key: {k} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)",
        ),
        (
            lambda pem: pem.key.write_bytes(pem.other_key()),
            "key: {k} is not the key of {c}; the server's own comes first there",
        ),
        (
            lambda pem: pem.key.write_bytes(pem.locked_key()),
            (
                "key: {k} wants a password, and nobody is there to type it; "
                "write one without, and keep it from others: openssl pkey -in {k} -out NEW"
            ),
        ),
        (
            lambda pem: pem.certificate.write_bytes(pem.certificate.read_bytes().replace(b"MII", b"MIJ", 1)),
            "certificate: {c} is damaged, or not a certificate after all",
        ),
        (
            lambda pem: pem.key.write_bytes(pem.key.read_bytes().replace(b"M", b"N", 1)),
            "key: {k} cannot be read as a key: it is damaged, or of a kind that OpenSSL does not know",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used(
    tmp_path: Path, spoil: Callable[[Pem], object], message: str
) -> None:
    pem = Pem(tmp_path)
    spoil(pem)
    place = message.format(c=pem.certificate, k=pem.key)
    assert pem.faults(tmp_path) == [f"server.tls.{place}"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read(tmp_path: Path) -> None:
    pem = Pem(tmp_path)
    pem.key.chmod(0)
    [message] = pem.faults(tmp_path)
    assert message.endswith(f"cannot be read: give user {os.getuid()} the right to read it")


# The schema


def fits(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """As much of JSON Schema as ours uses."""
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in rule:
        return any(fits(value, option, root) for option in rule["anyOf"])
    if "const" in rule:
        return bool(value == rule["const"])
    if "enum" in rule:
        return value in rule["enum"]
    match rule["type"], value:
        case "object", dict():
            properties, other = rule.get("properties", {}), rule.get("additionalProperties", True)
            return set(rule.get("required", ())) <= set(value) and all(
                fits(member, properties[key], root)
                if key in properties
                else isinstance(other, dict) and fits(member, other, root)
                for key, member in value.items()
            )
        case "array", list():
            return len(value) >= rule.get("minItems", 0) and all(
                fits(item, rule["items"], root) for item in value
            )
        case "string", str():
            return re.search(rule.get("pattern", ""), value) is not None
        case "boolean", bool():
            return True
        case "integer", int():
            return not isinstance(value, bool)
        case "number", int() | float():
            return not isinstance(value, bool)
        case "null", None:
            return True
    return False


def test_the_schema_takes_the_example_and_refuses_faults() -> None:
    rules = schema()
    example = read(str(EXAMPLE), ENV).value
    assert fits(example, rules, rules)
    wrong: dict[str, Any]
    for wrong in ({"spool": {"max_size": "10g"}}, {"server": {"timeouts": {"drain": 30}}}, {"sever": {}}):
        assert not fits({**example, **wrong}, rules, rules), wrong
    assert fits({**example, "spool": {"max_size": "${SIZE:-10GiB}"}}, rules, rules)


def test_the_schema_describes_every_key_and_shows_defaults_as_they_are_written() -> None:
    rules = schema()
    plain = {
        "name",
        "level",
        "rewrite",
        "limits",
        "timeouts",
        "cache",
        "ranges",
        "server",
        "admin",
        "spool",
        "defaults",
    }
    for section in (rules, *rules["$defs"].values()):
        assert section["description"]
        for key, rule in section["properties"].items():
            assert rule.get("description") or key in plain | {"match", "logging"}, (section["title"], key)
    assert rules["$defs"]["Spool"]["properties"]["max_size"]["default"] == "10GiB"
    assert rules["$defs"]["Server"]["properties"]["listen"]["default"] == ["127.0.0.1:8080"]
    assert rules["$defs"]["OriginTimeouts"]["properties"]["connect"]["default"] == "5s"


# Whatever the text is

_KEYS = st.sampled_from(
    [
        "server",
        "listen",
        "name",
        "timeouts",
        "drain",
        "admin",
        "spool",
        "path",
        "max_size",
        "origins",
        "a",
        "url",
        "routes",
        "match",
        "host",
        "path_prefix",
        "path_regex",
        "origin",
        "mode",
        "rewrite",
        "cache",
        "ttl",
        "key",
        "ranges",
        "cors",
        "allow_origins",
        "logging",
        "<<",
    ]
)
_WORDS = st.sampled_from(
    [
        "on",
        "off",
        "12:30",
        "010",
        "0x1F",
        "1e999",
        ".nan",
        "~",
        "null",
        "{}",
        "[]",
        "*a",
        "&a",
        "!!int",
        "!x",
        "${X}",
        "${X:-y}",
        "${",
        "''",
        '"\\UFFFFFFFF"',
        "2024-01-01",
        "http://a",
        "/films",
        "(",
        "10GiB",
        "30s",
        "127.0.0.1:80",
        "unix:/x",
        "adapt",
        "deny",
        "=",
        "-",
        "?",
        ":",
        "|",
        ">",
        "%YAML",
        "---",
        "...",
    ]
)
_LINES = st.builds(
    lambda indent, dash, key, word: f"{'  ' * indent}{'- ' if dash else ''}{key}: {word}",
    st.integers(0, 4),
    st.booleans(),
    _KEYS,
    _WORDS | st.text(max_size=8),
)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


def read_or_told(document: Document) -> bool:
    """Whether the document is either a config or at fault for reasons that are told."""
    try:
        return isinstance(parse(document, {}), Config)
    except ConfigError as error:
        return all(problem.message for problem in error.problems) and str(error) != ""


@given(st.lists(_LINES, max_size=8).map("\n".join) | st.text())
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        document = read_text(text, "config.yaml", {})
    except ConfigError as error:
        document = Document(error.name)
    assert read_or_told(document)


@given(st.dictionaries(_KEYS, _TREES, max_size=5))
def test_any_tree_is_a_config_or_a_config_error(tree: dict[str, Any]) -> None:
    assert read_or_told(Document("tree", tree))


def test_the_example_shows_every_key_of_the_cache() -> None:
    text = Path("config.yaml").read_text("utf-8")
    for name in Config.model_fields["defaults"].annotation.model_fields["cache"].annotation.model_fields:  # type: ignore[union-attr]
        assert f"{name}:" in text, f"say in config.yaml what `{name}` is"


def test_a_prefix_takes_no_star() -> None:
    [fault] = faults(f'routes: [{{match: {{path_prefix: "/films/*"}}, origin: a}}]\n{ORIGIN}')
    assert fault.endswith("a prefix takes no '*': it is for all that begins so; write /films/")
