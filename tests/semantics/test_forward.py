"""What goes on to the origin, and back to the client."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from multidict import CIMultiDict

from proxy.semantics.forward import (
    client_address,
    fill_fields,
    host_field,
    is_trusted,
    to_client,
    to_origin,
)
from proxy.semantics.key import KeyRules
from proxy.semantics.request import ClientRequest
from tests.semantics.exchanges import Lines, request

KEY = KeyRules()
TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def relayed(asked: ClientRequest, *, trusted: bool = False, upgrade: str | None = None) -> CIMultiDict[str]:
    return to_origin(asked, host="origin:80", via="range-adapter", trusted_peer=trusted, upgrade=upgrade)


def filled(
    asked: ClientRequest, *, host: str | None = "origin:80", key: KeyRules = KEY, trusted: bool = False
) -> CIMultiDict[str]:
    return fill_fields(
        asked, host=host, key=key, ignore_cookies=("_ga*",), via="range-adapter", trusted_peer=trusted
    )


ADDED = {"Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via"}


# --- To the origin --------------------------------------------------------------------------------


def test_a_relayed_request_keeps_what_is_end_to_end_and_loses_what_is_for_this_hop() -> None:
    asked = request(
        [
            ("Host", "example.com"),
            ("Connection", "keep-alive, X-Hop"),
            ("Keep-Alive", "timeout=5"),
            ("X-Hop", "1"),
            ("TE", "trailers"),
            ("Trailer", "X-T"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("Proxy", "http://evil"),
            ("Proxy-Authorization", "Basic eA=="),
            ("Proxy-Custom", "1"),
            ("Cookie", "a=1"),
            ("Range", "bytes=0-1"),
            ("If-None-Match", '"x"'),
            ("Accept-Encoding", "gzip"),
            ("X-HTTP-Method-Override", "PUT"),
            ("X-Own", "1"),
            ("X-Own", "2"),
        ]
    )
    fields = relayed(asked)
    kept = {"Cookie", "Range", "If-None-Match", "Accept-Encoding", "X-HTTP-Method-Override", "X-Own"}
    assert set(fields) == kept | ADDED
    assert fields.getall("X-Own") == ["1", "2"]
    assert fields.getall("Host") == ["origin:80"]


def test_the_host_policy_is_the_origins_the_clients_or_a_literal() -> None:
    assert host_field("origin", "legacy:8080") == "legacy:8080"
    assert host_field("preserve", "legacy:8080") is None
    assert host_field("media.example", "legacy:8080") == "media.example"
    preserved = to_origin(request(), host=None, via="range-adapter", trusted_peer=False)
    assert preserved["Host"] == "example.com"


def test_an_upgrade_is_asked_for_only_where_the_relay_says_so() -> None:
    asked = request({"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "k"})
    assert "Upgrade" not in relayed(asked)
    fields = relayed(asked, upgrade="websocket")
    assert (fields["Connection"], fields["Upgrade"]) == ("Upgrade", "websocket")
    assert fields["Sec-WebSocket-Key"] == "k"


CLAIMS = [
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "shop.example"),
    ("X-Forwarded-Port", "443"),
    ("X-Real-IP", "203.0.113.7"),
    ("Forwarded", "for=203.0.113.7"),
    ("X_Forwarded_For", "127.0.0.1"),
    ("Via", "1.0 front"),
]


def test_a_trusted_peers_trail_is_kept_and_appended_to() -> None:
    fields = relayed(request(CLAIMS), trusted=True)
    assert fields.getall("X-Forwarded-For") == ["203.0.113.7, 10.0.0.1, 192.0.2.1"]
    assert fields.getall("X-Forwarded-Proto") == ["https"]
    assert fields.getall("X-Forwarded-Host") == ["shop.example"]
    assert fields["X-Forwarded-Port"] == "443"
    assert fields["X-Real-IP"] == "203.0.113.7"
    assert fields["Forwarded"] == "for=203.0.113.7, for=192.0.2.1;host=example.com;proto=http"
    assert fields["Via"] == "1.0 front, 1.1 range-adapter"
    assert "X_Forwarded_For" not in fields


def test_anyone_elses_trail_is_replaced() -> None:
    fields = relayed(request(CLAIMS))
    assert set(fields) == ADDED
    assert fields.getall("X-Forwarded-For") == ["192.0.2.1"]
    assert fields.getall("X-Forwarded-Proto") == ["http"]
    assert fields.getall("X-Forwarded-Host") == ["example.com"]
    assert fields.getall("Forwarded") == ["for=192.0.2.1;host=example.com;proto=http"]
    assert fields["Via"] == "1.0 front, 1.1 range-adapter"


@pytest.mark.parametrize(
    ("peer", "trail", "node"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1", '"[2001:db8::1]"'),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("", None, "unknown"),
    ],
)
def test_a_hop_is_named_in_the_form_of_each_field(peer: str, trail: str | None, node: str) -> None:
    fields = relayed(replace(request(), peer=peer, host="example.com:8080", version=(1, 0)))
    assert fields.get("X-Forwarded-For") == trail
    assert fields["Forwarded"] == f'for={node};host="example.com:8080";proto=http'
    assert fields["Via"] == "1.0 range-adapter"


def test_nominating_a_field_of_the_trail_does_not_remove_it() -> None:
    fields = relayed(request({"Connection": "X-Forwarded-For, Forwarded, Via, Host"}))
    assert set(fields) == ADDED


# --- Fills ----------------------------------------------------------------------------------------


def test_a_fill_sends_what_an_origin_needs_and_nothing_of_one_clients_wishes() -> None:
    needed = {
        "User-Agent": "ua",
        "Accept": "video/*",
        "Accept-Language": "de",
        "Cookie": "a=1",
        "Authorization": "Basic eA==",
        "Referer": "http://example.com/",
        "Origin": "http://example.com",
        "X-Own": "1",
    }
    wishes = {
        "Range": "bytes=0-1",
        "Request-Range": "bytes=0-1",
        "If-Range": '"x"',
        "If-Match": '"x"',
        "If-None-Match": '"x"',
        "If-Modified-Since": "x",
        "If-Unmodified-Since": "x",
        "Cache-Control": "no-cache",
        "Pragma": "no-cache",
        "Expect": "100-continue",
        "TE": "trailers",
        "Max-Forwards": "1",
        "Content-Length": "5",
        "Content-Type": "text/plain",
        "X-HTTP-Method-Override": "DELETE",
        "X-HTTP-Method": "DELETE",
        "X_Method_Override": "DELETE",
        "X-Original-URL": "/admin",
        "X-Rewrite-URL": "/admin",
    }
    fields = filled(request(needed | wishes | {"Accept-Encoding": "gzip"}))
    assert set(fields) == set(needed) | ADDED | {"Accept-Encoding"}
    assert fields.getall("Accept-Encoding") == ["identity"]


def test_a_fill_for_a_page_asks_for_its_codings_in_a_normal_form() -> None:
    page = replace(request({"Accept-Encoding": "gzip;q=0.3, junk"}), path="/page", target="/page")
    assert filled(page)["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_fill_names_host_and_scheme_as_its_key_does_whoever_claims_others(trusted: bool) -> None:
    fields = filled(replace(request(CLAIMS), client="203.0.113.7"), trusted=trusted)
    assert set(fields) == ADDED | {"Accept-Encoding"}
    assert fields["X-Forwarded-For"] == ("203.0.113.7, 10.0.0.1, 192.0.2.1" if trusted else "192.0.2.1")
    assert (fields["X-Forwarded-Proto"], fields["X-Forwarded-Host"]) == ("http", "example.com")
    assert fields["Forwarded"] == "for=203.0.113.7;host=example.com;proto=http"
    assert fields["Via"] == "1.0 front, 1.1 range-adapter"


@pytest.mark.parametrize("host", ["origin:80", "media.example"])
def test_a_fill_for_all_hosts_names_none_of_a_client(host: str) -> None:
    asked = request({"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Host": "evil.example"})
    evil = replace(asked, host="evil.example")
    fields = filled(evil, host=host, key=KeyRules(("path", "query")))
    assert (fields["Host"], fields["X-Forwarded-Host"]) == (host, host)
    assert "evil" not in str(fields)
    own = filled(evil, host=host)
    assert (own["Host"], own["X-Forwarded-Host"]) == (host, "evil.example")
    assert "host=evil.example;" in own["Forwarded"]


# --- To the client --------------------------------------------------------------------------------


def test_an_answer_keeps_what_is_end_to_end_and_tells_that_it_passed_here() -> None:
    answer = CIMultiDict(
        [
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Status", "x"),
            ("Via", "1.1 upstream"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=1"),
            ("Server", "legacy"),
        ]
    )
    fields = to_client(answer, via="range-adapter", version=(1, 0))
    assert list(fields.items()) == [
        ("Via", "1.1 upstream, 1.0 range-adapter"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=1"),
        ("Server", "legacy"),
    ]


# --- Who is the client? ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "trail", "expected"),
    [
        ("192.0.2.1", {}, "192.0.2.1"),
        ("192.0.2.1", {"X-Forwarded-For": "1.1.1.1"}, "192.0.2.1"),
        ("10.0.0.1", {}, "10.0.0.1"),
        ("10.0.0.1", {"X-Forwarded-For": "1.1.1.1"}, "1.1.1.1"),
        ("10.0.0.1", {"X-Forwarded-For": "9.9.9.9, 1.1.1.1"}, "1.1.1.1"),
        ("10.0.0.1", {"X-Forwarded-For": "9.9.9.9, 1.1.1.1, 10.0.0.2"}, "1.1.1.1"),
        ("10.0.0.1", [("X-Forwarded-For", "9.9.9.9, 1.1.1.1"), ("X-Forwarded-For", "10.0.0.2")], "1.1.1.1"),
        ("10.0.0.1", {"X-Forwarded-For": "10.0.0.3, 10.0.0.2"}, "10.0.0.3"),
        ("10.0.0.1", {"X-Forwarded-For": "1.1.1.1, unknown, 10.0.0.2"}, "10.0.0.2"),
        ("10.0.0.1", {"X-Forwarded-For": "1.1.1.1:5678"}, "1.1.1.1"),
        ("10.0.0.1", {"X-Forwarded-For": "[2001:db8::1]:5678"}, "2001:db8::1"),
        ("10.0.0.1", {"X-Forwarded-For": "2001:db8::1"}, "2001:db8::1"),
        ("::ffff:10.0.0.1", {"X-Forwarded-For": "1.1.1.1"}, "1.1.1.1"),
        ("fd00::1", {"X-Forwarded-For": "1.1.1.1"}, "1.1.1.1"),
        ("10.0.0.1", {"X-Forwarded-For": "1.1.1.1, \u0661.1.1.1"}, "10.0.0.1"),
        ("", {"X-Forwarded-For": "1.1.1.1"}, ""),
    ],
)
def test_the_client_is_the_rightmost_address_that_no_trusted_proxy_owns(
    peer: str, trail: Lines, expected: str
) -> None:
    assert client_address(peer, CIMultiDict(trail), TRUSTED) == expected


def test_who_comes_by_a_unix_socket_is_trusted_by_that_word_alone() -> None:
    trail = CIMultiDict({"X-Forwarded-For": "9.9.9.9, 1.1.1.1, 10.0.0.2"})
    assert client_address("unix", trail, TRUSTED) == "unix"
    assert client_address("unix", trail, [*TRUSTED, "unix"]) == "1.1.1.1"
    assert client_address("unix", CIMultiDict(), ["unix"]) == "unix"
    assert is_trusted("unix", ["unix"])
    assert not is_trusted("10.1.2.3", ["unix"])


def test_a_peer_is_trusted_by_its_network_in_whatever_form_its_address_comes() -> None:
    assert is_trusted("10.1.2.3", TRUSTED)
    assert is_trusted("::ffff:10.1.2.3", TRUSTED)
    assert is_trusted("fd00::1", TRUSTED)
    assert not is_trusted("192.0.2.1", TRUSTED)
    assert not is_trusted("unix", TRUSTED)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (["session=1"], "session=1"),
        (["_ga=1; session=1; _gat=2; b=3"], "session=1; b=3"),
        (["b=3", "a=1"], "b=3; a=1"),
        (["_ga=1"], None),
        (["_ga=1, session=2"], None),
        ([" ; "], None),
    ],
)
def test_a_fill_tells_only_of_cookies_that_count(sent: list[str], told: str | None) -> None:
    fields = filled(request([("Cookie", line) for line in sent]))
    assert fields.getall("Cookie", [None]) == [told]
