"""Routes: who takes a request, what the origin is asked for, and that no spelling slips past a rule."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.config import ConfigError, Document, parse
from proxy.config.model import Config
from proxy.errors import ClientError, Denied, NoRoute, UnknownHost
from proxy.explain import explain
from proxy.routes import Mode, Routed, RouteTable, matching_path
from proxy.semantics.cors import Cors
from proxy.semantics.key import KeyRules
from proxy.semantics.policy import Authorize, CachePolicy
from proxy.semantics.ranges import RangeLimits
from proxy.semantics.request import ClientRequest

DENY_ADMIN = {"name": "closed", "match": {"path_prefix": "/admin"}, "mode": "deny"}


def config(*routes: dict[str, Any], **sections: Any) -> Config:
    value = {"origins": {"legacy": {"url": "http://legacy:8000"}}, "routes": list(routes), **sections}
    return parse(Document("test", value), {})


def request(target: str = "/", method: str = "GET", host: str = "h", **fields: str) -> ClientRequest:
    path, question, query = target.partition("?")
    return ClientRequest(
        method=method,
        target=target,
        path=path,
        query=query if question else None,
        scheme="http",
        host=host,
        fields=CIMultiDict(fields),
        peer="127.0.0.1",
        client="127.0.0.1",
    )


def routed(asked: ClientRequest, *routes: dict[str, Any], **sections: Any) -> Routed:
    return RouteTable(config(*routes, **sections)).match(asked)


def taken_by(asked: ClientRequest, match: dict[str, Any]) -> bool:
    try:
        routed(asked, {"match": match})
    except (NoRoute, UnknownHost):
        return False
    return True


# Conditions


@pytest.mark.parametrize(
    ("pattern", "host", "taken"),
    [
        ("media.example.com", "media.example.com", True),
        ("Media.Example.com.", "media.example.com", True),
        ("media.example.com", "MEDIA.example.com.", True),
        ("media.example.com", "media.example.com:8080", True),
        ("media.example.com", "media.example.com.:8080", True),
        ("media.example.com", "example.com", False),
        ("media.example.com", "xmedia.example.com", False),
        ("media.example.com:8080", "media.example.com:8080", True),
        ("media.example.com:8080", "media.example.com", False),
        ("media.example.com:8080", "media.example.com:80", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com:1", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "aexample.com", False),
        ("[::1]", "[::1]", True),
        ("[::1]", "[::1]:80", True),
        ("[::1]:80", "[::1]", False),
        (["a", "b"], "b", True),
        ("a", "", False),
    ],
)
def test_host(pattern: str, host: str, taken: bool) -> None:
    assert taken_by(request(host=host), {"host": pattern}) is taken


@pytest.mark.parametrize(
    ("prefix", "path", "taken"),
    [
        ("/", "/", True),
        ("/", "/a/b", True),
        ("/", "", True),
        ("/", "*", True),
        ("/films", "*", False),
        ("/films", "/films", True),
        ("/films", "/films/", True),
        ("/films", "/films/a", True),
        ("/films", "/filmsx", False),
        ("/films", "/Films", False),
        ("/films", "/x/films", False),
        ("/films/", "/films", True),
        ("/my films", "/my%20films/a", True),
        ("/my%20films", "/my%20films/a", True),
        ("/caf\u00e9", "/caf%C3%A9", True),
        ("/caf\u00e9", "/caf%c3%a9/x", True),
        ("/%FF", "/%ff", True),
    ],
)
def test_path_prefix(prefix: str, path: str, taken: bool) -> None:
    assert taken_by(request(path), {"path_prefix": prefix}) is taken


@pytest.mark.parametrize(
    ("regex", "path", "taken"),
    [
        (r"\.(mp4|pdf)$", "/a/b.mp4", True),
        (r"\.(mp4|pdf)$", "/a/b%2emp4?x", True),
        (r"\.(mp4|pdf)$", "/a/b.mp4x", False),
        (r"\.mp4$", "/a?b.mp4", False),
        ("^/a b$", "/a%20b", True),
        ("^/a%0A$", "/a%0a", True),
        ("^/a$", "/a%0a", False),
    ],
)
def test_path_regex(regex: str, path: str, taken: bool) -> None:
    assert taken_by(request(path), {"path_regex": regex}) is taken


@pytest.mark.parametrize(
    ("methods", "method", "taken"),
    [
        (["GET"], "GET", True),
        (["GET"], "HEAD", True),
        (["GET"], "POST", False),
        (["GET"], "get", False),
        (["POST"], "HEAD", False),
    ],
)
def test_methods(methods: list[str], method: str, taken: bool) -> None:
    assert taken_by(request(method=method), {"methods": methods}) is taken


def test_a_route_with_cors_takes_the_preflights_too() -> None:
    match = {"methods": ["GET"]}
    preflight = request(method="OPTIONS")
    assert routed(preflight, {"match": match, "cors": {}}).route.name == "route-1"
    with pytest.raises(NoRoute):
        routed(preflight, {"match": match})


def test_all_conditions_must_hold_and_the_first_route_wins() -> None:
    routes: list[dict[str, Any]] = [
        {"name": "a", "match": {"host": "h", "path_prefix": "/a", "methods": ["GET"]}},
        {"name": "b", "match": {"path_prefix": "/a"}},
        {"name": "c"},
    ]
    assert routed(request("/a/x"), *routes).route.name == "a"
    assert routed(request("/a/x", "POST"), *routes).route.name == "b"
    assert routed(request("/a/x", host="i"), *routes).route.name == "b"
    assert routed(request("/b"), *routes).route.name == "c"


def test_requests_that_nobody_takes() -> None:
    with pytest.raises(NoRoute):
        routed(request("/b"), {"match": {"path_prefix": "/a"}})
    with pytest.raises(UnknownHost):
        routed(request("/a"), {"match": {"host": "other"}})
    with pytest.raises(NoRoute):
        routed(request("/a"), {"match": {"host": "other"}}, {"match": {"host": "h", "path_prefix": "/b"}})


# What stands behind a deny stays behind it


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/admin/",
        "/admin/users",
        "//admin",
        "///admin//users",
        "/%61dmin",
        "/%61%64%6d%69%6E/x",
        "/admin%2Fusers",
        "/%2Fadmin",
        "/admin;v=1/users",
        "/;/admin",
        "/admin%3bv=1",
        "/\\admin",
        "/admin\\users",
        "/admin%5cusers",
    ],
)
def test_denied_in_any_spelling(path: str) -> None:
    with pytest.raises(Denied):
        routed(request(path), DENY_ADMIN, {"name": "rest"})


@pytest.mark.parametrize(
    "path",
    [
        "/films/../admin",
        "/films/..",
        "/..",
        "/./admin",
        "/films/.",
        "/films/%2e%2e/admin",
        "/films/.%2E/admin",
        "/films/..%2fadmin",
        "/films%2f..%2fadmin",
        "/films/..%5cadmin",
        "/films\\..\\admin",
        "/films/..;/admin",
        "/films/..;x=1/admin",
        "/films/%2e%2e%3b/admin",
    ],
)
def test_dot_segments_are_refused_in_any_spelling(path: str) -> None:
    with pytest.raises(ClientError) as caught:
        routed(request(path), DENY_ADMIN, {"name": "rest"})
    assert (caught.value.status, caught.value.reason) == (400, "dot-segments")


@pytest.mark.parametrize("path", ["/a..b", "/...", "/.well-known/x", "/a.", "/.hidden", "/x..", "/a%2e%2eb"])
def test_dots_in_names_are_none(path: str) -> None:
    assert routed(request(path)).path == path


def test_a_path_starts_with_a_slash() -> None:
    with pytest.raises(ClientError):
        routed(request("a/b"))


@given(st.text())
def test_the_normal_form_is_one(path: str) -> None:
    raw = "/" + quote(path, safe="/;\\%")
    try:
        normal = matching_path(raw)
    except ClientError:
        return
    assert "//" not in normal
    assert ".." not in normal.split("/")
    assert matching_path(quote(normal)) == normal or ";" in normal or "%" in normal or "\\" in normal


# What the origin is asked for


@pytest.mark.parametrize(
    ("rewrite", "target", "sent"),
    [
        ({}, "/a", "/a"),
        ({}, "/a?", "/a?"),
        ({}, "/a?b=%20&c=//", "/a?b=%20&c=//"),
        ({}, "//a//%7e;x?y", "//a//%7e;x?y"),
        ({}, "/caf%c3%a9", "/caf%c3%a9"),
        ({}, "", "/"),
        ({}, "?x", "/?x"),
        ({}, "*", "*"),
        ({"strip_prefix": "/films"}, "/films/a%2Fb?q", "/a%2Fb?q"),
        ({"strip_prefix": "/films/"}, "/films/a", "/a"),
        ({"strip_prefix": "/films"}, "/films", "/"),
        ({"strip_prefix": "/films"}, "/films/", "/"),
        ({"strip_prefix": "/films"}, "/films?x", "/?x"),
        ({"strip_prefix": "/films"}, "/filmsx", "/filmsx"),
        ({"strip_prefix": "/films"}, "/films%2Fa", "/films%2Fa"),
        ({"strip_prefix": "/films"}, "/%66ilms/%61", "/%61"),
        ({"strip_prefix": "/films"}, "//films//a", "//a"),
        ({"strip_prefix": "/my films"}, "/my%20films/a", "/a"),
        ({"strip_prefix": "/a/b"}, "/a/b/c", "/c"),
        ({"strip_prefix": "/a/b"}, "/a/c", "/a/c"),
        ({"strip_prefix": "/"}, "/a", "/a"),
        ({"add_prefix": "/video"}, "/a?", "/video/a?"),
        ({"add_prefix": "/video/"}, "/", "/video/"),
        ({"add_prefix": "/my %20caf\u00e9"}, "/a", "/my%20%20caf%C3%A9/a"),
        ({"add_prefix": "/video"}, "*", "*"),
        ({"strip_prefix": "/films", "add_prefix": "/video"}, "/films/a", "/video/a"),
    ],
)
@pytest.mark.parametrize("base", ["", "/base"])
def test_targets(rewrite: dict[str, str], target: str, sent: str, base: str) -> None:
    origins = {"legacy": {"url": f"http://legacy{base}/"}}
    chosen = routed(request(target), {"rewrite": rewrite}, origins=origins)
    assert chosen.target == ("*" if sent == "*" else base + sent)


# The say of a route


def test_a_route_carries_the_policy_of_defaults_and_its_own() -> None:
    route = routed(
        request(),
        {
            "name": "films",
            "cache": {"ttl": "1d", "key": ["path"]},
            "ranges": {"unknown_length_wait": "5s"},
            "cors": {"allow_origins": ["https://a", "https://b"]},
        },
        defaults={
            "cache": {"ttl": "2h", "shared": True, "ignore_cookies": ["x*"], "media_types": "text/*"},
            "ranges": {"max": 5, "max_overlaps": 0},
            "cors": {"max_age": "10m"},
        },
    ).route
    assert (route.name, route.mode, route.origin) == ("films", Mode.ADAPT, "legacy")
    assert route.policy == CachePolicy(
        ttl=86_400, media_types=("text/*",), shared=True, ignore_cookies=("x*",), query_in_key=False
    )
    assert route.key == KeyRules(("path",))
    assert route.limits == RangeLimits(max_ranges=5, max_overlaps=0)
    assert route.unknown_length_wait == 5.0
    assert route.cors == Cors(frozenset({"https://a", "https://b"}), 600)


def test_what_is_in_the_key() -> None:
    route = routed(
        request(),
        {"cache": {"query": {"keep": ["id", "a[*]"], "sort": True}, "key_fields": ["X-B", "x-a", "X-b"]}},
        defaults={"cache": {"query": {"drop": "utm_*"}}},
    ).route
    assert route.key == KeyRules(keep=("id", "a[[]*]"), sort=True, fields=("x-a", "x-b"))


@pytest.mark.parametrize(
    ("query", "target", "fetched"),
    [
        ({"drop": "utm_*"}, "/a?utm_x=1&id=%31", "/a?id=%31"),
        ({"drop": "utm_*"}, "/a?utm_x=1", "/a"),
        ({"drop": "utm_*"}, "/a?", "/a?"),
        ({"drop": "utm_*"}, "/a", "/a"),
        ({"keep": "id"}, "/a?", "/a"),
        ({"keep": []}, "/a?b&c", "/a"),
        ({"keep": ["filter[*]", "ids[]"]}, "/a?filter[a]=1&filter%5Bb%5D=2&ids[]=3&filtera=4", None),
        ({"sort": True}, "/a?b=1&a=2&a=1", "/a?a=2&a=1&b=1"),
        ({}, "/a?b=1&&a;c=%7e?", "/a?b=1&&a;c=%7e?"),
    ],
)
def test_an_object_is_fetched_without_what_the_key_leaves_out(
    query: dict[str, Any], target: str, fetched: str | None
) -> None:
    found = routed(request(target), {"cache": {"query": query}})
    assert found.target == target, "relayed requests keep theirs"
    assert found.fetch_target == (fetched or target.rpartition("&")[0])


def test_a_query_that_is_not_in_the_key_goes_on_whole() -> None:
    cache = {"key": ["host", "path"], "query": {"drop": "*"}}
    assert routed(request("/a?b=1"), {"cache": cache}).fetch_target == "/a?b=1"


def test_without_a_word_a_route_has_the_defaults_of_the_semantics() -> None:
    route = routed(request()).route
    assert (route.policy, route.key, route.limits) == (CachePolicy(), KeyRules(), RangeLimits())
    assert (route.unknown_length_wait, route.cors) == (30.0, None)


def test_cors_can_be_switched_off_for_a_route() -> None:
    assert routed(request(), {"cors": None}, defaults={"cors": {}}).route.cors is None
    assert routed(request(), {}, defaults={"cors": {}}).route.cors == Cors(frozenset({"*"}), 3600)


@pytest.mark.parametrize(
    ("policy", "host"),
    [("origin", "legacy:8000"), ("preserve", None), ("www.example.com", "www.example.com")],
)
def test_the_host_for_the_origin(policy: str, host: str | None) -> None:
    origins = {"legacy": {"url": "http://legacy:8000", "host": policy}}
    assert routed(request(), origins=origins).route.host == host


# Explain


def test_explain() -> None:
    settings = config(
        DENY_ADMIN,
        {"name": "other", "match": {"host": "other"}},
        {"name": "films", "match": {"path_prefix": "/films"}, "rewrite": {"strip_prefix": "/films"}},
        {"name": "rest", "mode": "passthrough"},
    )
    explanation = explain(settings, request("/films/%61?b", Cookie="session=1"))
    assert explanation.tried == (
        ("closed", "is for another path_prefix"),
        ("other", "is for another host"),
        ("films", "takes the request"),
    )
    assert (explanation.outcome, explanation.origin, explanation.host) == ("adapt", "legacy", "legacy:8000")
    assert explanation.origin_url == "http://legacy:8000/%61?b"
    assert explanation.cache_key == "legacy http://h/a?b"
    assert explanation.policy == (
        "kept as long as the origin says; media for 1h where it says nothing",
        "this request has credentials: kept for them alone, unless the origin says it is for all",
        "cache.shared: true would keep one copy for everybody",
        "up to 100 ranges, 2 of them overlapping",
        "a range waits up to 30s for an object of unknown length",
    )
    passed = explain(settings, request("/x", "POST"))
    assert (passed.outcome, passed.cache_key, passed.policy) == ("passthrough", None, ())
    denied = explain(settings, request("/admin"))
    assert denied.tried == (("closed", "takes the request"),)
    assert denied.outcome == "403 denied: route closed denies this"
    assert denied.origin is None
    assert explain(settings, request("/../x")).outcome == "400 dot-segments: the path has dot segments"


def test_explain_tells_what_is_in_the_key() -> None:
    cache = {"query": {"drop": ["utm_*", "x"], "sort": True}, "key_fields": ["X-Tenant", "X-Lang"]}
    origins = {"legacy": {"url": "http://legacy:8000", "host": "preserve"}}
    asked = request("/a?utm_%61=1&b=1&a[]=2&x", host="H.:80", **{"X-Tenant": "blue"})
    told = explain(config({"cache": cache}, origins=origins), asked)
    assert (told.origin_url, told.host) == ("http://legacy:8000/a?a[]=2&b=1", "h")
    assert told.cache_key is not None
    assert told.cache_key.startswith("legacy http://h/a?a[]=2&b=1 (no x-lang) (x-tenant ")
    assert told.policy[:5] == (
        "parameters left out of the key, and of what the origin is asked for: utm_a, x",
        "parameters in the key: a[], b",
        "their order tells nothing: the origin gets them sorted by name",
        "requests without x-lang have an object of their own",
        "requests with this x-tenant have an object of their own: blue",
    )
    nothing_left = explain(config({"cache": cache}), request("/a?x"))
    assert nothing_left.origin_url == "http://legacy:8000/a"
    assert nothing_left.policy[1] == "parameters in the key: none"


def test_explain_tells_that_the_query_is_not_in_the_key() -> None:
    told = explain(config({"cache": {"key": "path"}}), request("/a?b"))
    assert (told.cache_key, told.origin_url) == ("legacy http://*/a?*", "http://legacy:8000/a?b")
    assert told.policy[0] == "one object for all queries; the origin gets that of whoever comes first"


def test_two_origins_have_two_keys_and_the_text_tells() -> None:
    origins = {"one": {"url": "http://one"}, "two": {"url": "http://two"}}
    routes = ({"match": {"path_prefix": "/a"}, "origin": "one"}, {"origin": "two"})
    strip = {"match": {"path_prefix": "/b"}, "origin": "two", "rewrite": {"strip_prefix": "/b"}}
    asked = [request("/a"), request("/b/a")]
    texts = [explain(config(routes[0], strip, origins=origins), each).cache_key for each in asked]
    assert texts == ["one http://h/a", "two http://h/a"]


def test_authorize() -> None:
    cache = {"authorize": {"method": "HEAD", "ttl": "30s"}}
    route = RouteTable(config({"cache": cache})).match(request("/a")).route
    assert route.policy.authorize == Authorize("HEAD", 30.0)
    assert route.key.guarded
    route = RouteTable(config({})).match(request("/a")).route
    assert (route.policy.authorize, route.key.guarded) == (None, False)


def test_explain_tells_that_the_origin_is_asked() -> None:
    told = explain(config({"cache": {"authorize": "origin"}}), request("/a", Cookie="session=1"))
    assert told.cache_key == "legacy http://h/a (guarded)"
    assert told.policy[1:4] == (
        "each request asks the origin with its own credentials, by a GET, given up after its head (cache.authorize)",
        "a 304, or a 200 like the stored one, is a yes: one copy for all who get it, from the spool",
        "anything else is relayed as it is",
    )
    cache = {"authorize": {"method": "HEAD", "ttl": "30s"}}
    words = explain(config({"cache": cache}), request("/a")).policy
    assert "by a HEAD, and a GET if that is no yes" in words[1]
    assert words[4] == "a yes is remembered for 30s for the same Cookie and Authorization"


def test_explain_puts_other_policies_in_words() -> None:
    policy = {"cache": {"respect_origin": False, "shared": True}, "cors": {"allow_origins": "https://a"}}
    words = explain(config(policy), request(Authorization="x")).policy
    assert words[0] == "media is kept for 1h, unless the origin says no-store or private"
    assert words[1] == "one copy for everybody, with credentials or without (cache.shared)"
    assert words[-1] == "web pages of https://a may read it"


# Whatever is accepted makes a table

_PREFIXES = st.text(st.sampled_from("/.%2eE5cCfF;\\abc "), max_size=12).map("/{}".format)


@given(_PREFIXES, _PREFIXES, _PREFIXES)
def test_every_accepted_prefix_makes_a_table(prefix: str, strip: str, path: str) -> None:
    route = {"match": {"path_prefix": prefix}, "rewrite": {"strip_prefix": strip}}
    try:
        settings = config(route)
    except ConfigError:
        return
    table = RouteTable(settings)
    try:
        target = table.match(request(path)).target
    except ClientError:
        return
    assert target.startswith("/")
    assert path.endswith(target) or target == "/"
