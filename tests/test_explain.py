"""What `explain` says becomes of an origin's answer: in words that hold for what the service then does."""

from dataclasses import replace

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.answers import Answer, Prospect, prospect
from proxy.config import Config, Document, parse
from proxy.explain import Explanation, explain, lines
from proxy.facts import WHY_NOT_STORED, span
from proxy.semantics.fields import format_http_date
from proxy.semantics.freshness import Basis, Scope, Stored
from proxy.semantics.policy import Authorize, CachePolicy
from proxy.semantics.representation import Representation
from proxy.semantics.request import ClientRequest
from proxy.semantics.reuse import Ask, Refuse, Reuse, decide
from proxy.semantics.storing import NoStore, Pass, Store, judge
from proxy.semantics.validators import Validators

NOW = 1_800_000_000
HOUR, DAY = 3600, 86_400
STALE_IF_ERROR = "; if it fails, this is served all the same (detail=stale-if-error)"
MEDIA = {"Content-Type": "video/mp4"}
TEXT = {"Content-Type": "text/html"}


def request(path: str = "/a", method: str = "GET", **fields: str) -> ClientRequest:
    sent = CIMultiDict((name.replace("_", "-"), value) for name, value in fields.items())
    return ClientRequest(method, path, path, None, "http", "h", sent, "127.0.0.1", "127.0.0.1")


def answer(fields: dict[str, str], status: int = 200) -> Answer:
    return Answer(status, CIMultiDict(fields), NOW)


def told(
    fields: dict[str, str],
    status: int = 200,
    asked: ClientRequest | None = None,
    policy: CachePolicy | None = None,
    largest: int = 2**40,
) -> Prospect:
    return prospect(answer(fields, status), asked or request(), policy or CachePolicy(), largest)


def configured(*routes: object) -> Config:
    value = {"origins": {"o": {"url": "http://o"}}, **({"routes": list(routes)} if routes else {})}
    return parse(Document("test", value), {})


def printed(explanation: Explanation) -> list[str]:
    text = list(lines(explanation))
    return text[text.index("", text.index("") + 1) + 1 :]


def test_each_reason_has_a_sentence_of_its_own() -> None:
    assert set(WHY_NOT_STORED) == set(NoStore)
    assert len(set(WHY_NOT_STORED.values())) == len(NoStore)


NOT_STORED = {
    NoStore.REQUEST_NO_STORE: (MEDIA, 200, request(Cache_Control="no-store")),
    NoStore.STATUS: (TEXT, 503, request()),
    NoStore.STREAM: ({"Content-Type": "text/event-stream"}, 200, request()),
    NoStore.NO_STORE: ({"Cache-Control": "no-store"}, 200, request()),
    NoStore.PRIVATE: ({"Cache-Control": "private"}, 200, request()),
    NoStore.VARY_STAR: ({"Vary": "*"}, 200, request()),
    NoStore.SET_COOKIE: ({"Set-Cookie": "a=b"}, 200, request()),
    NoStore.NO_FRESHNESS: (TEXT, 200, request()),
    NoStore.NO_VALIDATOR: ({"Cache-Control": "max-age=0"}, 200, request()),
    NoStore.CREDENTIALS: (MEDIA, 200, request(Authorization="Digest x")),
    NoStore.UNKEYED_QUERY: (MEDIA, 404, replace(request(), query="x")),
}


def test_each_reason_is_tried() -> None:
    assert set(NOT_STORED) | {NoStore.PARTIAL} == set(NoStore)


@pytest.mark.parametrize("reason", NOT_STORED)
def test_what_is_not_stored(reason: NoStore) -> None:
    fields, status, asked = NOT_STORED[reason]
    policy = CachePolicy(query_in_key=reason is not NoStore.UNKEYED_QUERY)
    assert judge(asked, status, CIMultiDict(fields), policy, NOW) == Pass(reason)
    said = told(fields, status, asked, policy)
    assert (said.outcome, said.detail) == (f"not stored: {reason.value}", reason.value)
    assert said.because == (WHY_NOT_STORED[reason],)
    [again] = said.next
    fwd = "fwd=request" if reason is NoStore.REQUEST_NO_STORE else "fwd=uri-miss"
    assert (again.after, again.cache_status) == (0, fwd)


def test_what_only_the_service_refuses() -> None:
    for status in (206, 304, 416):
        assert told(MEDIA, status).outcome == "not used: the client gets 502 origin-malformed"
    assert told(MEDIA | {"Content-Length": "11"}, largest=10).detail == "too-large"
    assert told(MEDIA | {"Content-Length": "10"}, largest=10).detail is None
    # The length is only a claim there, and not what the body is delimited by.
    assert told(MEDIA | {"Content-Length": "11", "Transfer-Encoding": "chunked"}, largest=10).detail is None


@pytest.mark.parametrize(
    ("fields", "policy", "basis", "seconds", "sentence"),
    [
        (
            {"Cache-Control": "s-maxage=60, max-age=5"},
            CachePolicy(),
            Basis.S_MAXAGE,
            60,
            "its lifetime is s-maxage ",
        ),
        (
            {"Cache-Control": "max-age=90"},
            CachePolicy(),
            Basis.MAX_AGE,
            90,
            "max-age of Cache-Control, 1m30s",
        ),
        (
            {"Expires": format_http_date(NOW + 60)},
            CachePolicy(),
            Basis.EXPIRES,
            60,
            "at Expires, 1m after Date",
        ),
        (MEDIA, CachePolicy(), Basis.POLICY, HOUR, "for video/mp4 it is cache.ttl, 1h"),
        ({}, CachePolicy(), Basis.POLICY, HOUR, "for what has no Content-Type it is cache.ttl"),
        (
            MEDIA | {"Cache-Control": "max-age=1"},
            CachePolicy(respect_origin=False),
            Basis.POLICY,
            HOUR,
            "whatever the origin says (cache.respect_origin: false)",
        ),
        (
            TEXT | {"Last-Modified": format_http_date(NOW - 1000)},
            CachePolicy(heuristic=0.2),
            Basis.HEURISTIC,
            200,
            "20 % of the time since Last-Modified, at most cache.ttl, 1h",
        ),
        ({"Pragma": "no-cache", "ETag": '"x"'}, CachePolicy(), Basis.NO_CACHE, 0, "asked before each reuse"),
    ],
)
def test_how_long_it_is_fresh_and_by_what(
    fields: dict[str, str], policy: CachePolicy, basis: Basis, seconds: int, sentence: str
) -> None:
    said = told(fields, policy=policy)
    assert (said.basis, said.fresh_for) == (basis.value, seconds)
    assert sentence in said.because[0]


def test_the_targeted_field_governs() -> None:
    policy = CachePolicy(targets=("X-Mine", "CDN-Cache-Control"))
    said = told(
        {"X-Mine": "???", "CDN-Cache-Control": "max-age=60", "Cache-Control": "private", "Expires": "0"},
        policy=policy,
    )
    assert said.because == (
        "X-Mine is malformed, and so ignored (RFC 9213 section 2.1)",
        "CDN-Cache-Control governs, Cache-Control and Expires say nothing (RFC 9213)",
        "its lifetime is max-age of CDN-Cache-Control, 1m",
    )


def test_what_is_old_when_it_arrives() -> None:
    said = told({"Cache-Control": "max-age=3600", "Age": "600"})
    assert said.fresh_for == HOUR - 600
    assert "it is 10m old when it arrives, by its Age and Date" in said.because
    assert [each.after for each in said.next[:2]] == [0, HOUR - 600]
    assert told({"Cache-Control": "max-age=60", "Age": "600", "ETag": '"x"'}).fresh_for == 0


@pytest.mark.parametrize(
    ("asked", "fields", "policy", "scope", "sentence"),
    [
        (request(), MEDIA, CachePolicy(), Scope.SHARED, ""),
        (request(Cookie="_ga=1"), MEDIA, CachePolicy(), Scope.SHARED, ""),
        (
            request(Cookie="sid=1; _ga=1"),
            MEDIA,
            CachePolicy(),
            Scope.PARTITION,
            "a cookie (sid), and the answer does",
        ),
        (
            request(Cookie="sid=1"),
            {"Cache-Control": "max-age=9"},
            CachePolicy(),
            Scope.SHARED,
            "a lifetime of its own",
        ),
        (request(Cookie="sid=1"), MEDIA, CachePolicy(shared=True), Scope.SHARED, "(cache.shared: true)"),
        (
            request(Cookie="sid=1"),
            {"Cache-Control": "public, max-age=1"},
            CachePolicy(),
            Scope.SHARED,
            "but the answer is public",
        ),
        (
            request(Authorization="Basic x"),
            {"Cache-Control": "max-age=9"},
            CachePolicy(),
            Scope.PARTITION,
            "Authorization, and the answer does not say that it is for all (public or s-maxage",
        ),
        (
            request(Authorization="Basic x"),
            {"Cache-Control": "s-maxage=9"},
            CachePolicy(),
            Scope.SHARED,
            "allows to share it (RFC 9111, 3.5)",
        ),
    ],
)
def test_for_whom(
    asked: ClientRequest, fields: dict[str, str], policy: CachePolicy, scope: Scope, sentence: str
) -> None:
    judged = judge(asked, 200, CIMultiDict(fields), policy, NOW)
    assert isinstance(judged, Store)
    assert judged.scope is scope
    said = told(fields, asked=asked, policy=policy)
    for_all = scope is Scope.SHARED
    assert said.outcome == f"stored, for {'everyone' if for_all else 'this credential alone'}"
    about = [each for each in said.because if each.startswith("the request has")]
    assert len(about) == bool(sentence)
    assert not about or sentence in about[0]


def test_the_next_requests() -> None:
    policy = CachePolicy(stale_while_revalidate=60, stale_if_error=HOUR)
    said = told({"Cache-Control": "max-age=600", "ETag": 'W/"x"'}, policy=policy)
    assert (said.while_revalidate, said.if_error, said.validate) == (60, HOUR, ())
    assert [(each.after, each.cache_status) for each in said.next] == [
        (0, "hit"),
        (600, "hit;detail=stale-while-revalidate"),
        (660, "fwd=stale"),
        (600 + HOUR, "fwd=stale"),
    ]
    assert said.next[2].meaning == f"the origin is asked by If-None-Match{STALE_IF_ERROR}"
    assert said.next[3].meaning == "the origin is asked by If-None-Match"


@pytest.mark.parametrize(
    "wish", ["", "max-age=20", "min-fresh=15", "max-stale=10", "max-stale", "max-age=70, max-stale=40"]
)
@pytest.mark.parametrize("age", ["0", "17", "90"])
@pytest.mark.parametrize(
    "said",
    ["max-age=60", "max-age=60, stale-while-revalidate=10", "max-age=60, stale-if-error=5", "s-maxage=30"],
)
def test_no_change_is_missed(said: str, age: str, wish: str) -> None:
    """At each second, the last of what is told is what the service would do."""
    fields = CIMultiDict({"Cache-Control": said, "Age": age, "ETag": '"x"'})
    asked, policy = request(**({"Cache_Control": wish} if wish else {})), CachePolicy(stale_if_error=20)
    judged = judge(asked, 200, fields, policy, NOW)
    assert isinstance(judged, Store)
    kept = Representation(200, CIMultiDictProxy(judged.fields), Validators(None), None)
    told_of = told(dict(fields), asked=asked, policy=policy).next
    for after in range(150):
        match decide(asked, [Stored(kept, NOW, NOW)], policy, NOW + after):
            case Reuse(_, _, _, refresh):
                expected = "hit;detail=stale-while-revalidate" if refresh else "hit"
                falls_back = False
            case Ask(reason, _, _, fallback):
                expected, falls_back = f"fwd={reason.value}", fallback is not None
            case Refuse():
                raise AssertionError("nobody has asked for that")
        now = [each for each in told_of if each.after <= after][-1]
        assert (now.cache_status, STALE_IF_ERROR in now.meaning) == (expected, falls_back), after


def test_what_must_be_validated() -> None:
    said = told({"Cache-Control": 's-maxage=60, must-revalidate, no-cache="set-cookie, x"'})
    assert (said.validate, said.if_error) == (("s-maxage", "must-revalidate"), 0)
    assert said.next[1].meaning == (
        "the origin is asked for the whole, to compare it with what is stored (no validator); "
        "if it cannot be reached, the client gets 504"
    )


def test_where_the_origin_is_asked_who_may_have_it() -> None:
    fields, asked = {"Cache-Control": "max-age=600", "ETag": '"x"'}, request(Cookie="sid=1")
    said = told(fields, asked=asked, policy=CachePolicy(authorize=Authorize(ttl=60.0)))
    assert said.outcome == "stored, for all whom the origin lets have it"
    assert [(each.after, each.cache_status) for each in said.next[:3]] == [
        (0, "hit"),
        (60, "fwd=miss"),
        (600, "fwd=miss"),
    ]
    assert said.next[1].meaning == "the origin is asked whether this request may have what is stored"
    said = told(fields, asked=asked, policy=CachePolicy(authorize=Authorize()))
    assert (said.next[0].after, said.next[0].cache_status) == (0, "fwd=miss")
    assert (
        told(TEXT, asked=asked, policy=CachePolicy(authorize=Authorize())).next[0].cache_status == "fwd=miss"
    )


def test_the_wishes_of_the_request_count() -> None:
    said = told({"Cache-Control": "max-age=60"}, asked=request(Cache_Control="max-age=10"))
    assert [(each.after, each.cache_status) for each in said.next] == [
        (0, "hit"),
        (10, "fwd=request"),
        (60, "fwd=stale"),
    ]
    said = told({"Cache-Control": "max-age=60"}, asked=request(Cache_Control="only-if-cached, max-stale=5"))
    assert [(each.after, each.cache_status) for each in said.next] == [
        (0, "hit"),
        (60, "hit"),
        (66, "detail=only-if-cached"),
    ]
    assert any("only-if-cached" in each for each in said.because)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (90, "1m30s"), (DAY + HOUR, "1d1h"), (2**63 - 1, "more than 100 years")],
)
def test_spans(seconds: int, text: str) -> None:
    assert span(seconds) == text
    assert told({"Cache-Control": f"max-age={seconds}", "ETag": '"x"'}).fresh_for == seconds


def test_what_is_printed() -> None:
    config = configured()
    asked = request(Accept_Language="de")
    fields = MEDIA | {
        "Cache-Control": "public, max-age=3600",
        "Vary": "Accept-Language, Cookie",
        "ETag": '"x"',
        "Set-Cookie": "a=b",
        "Cache-Tag": "news, film-7",
    }
    assert printed(explain(config, asked, answer(fields))) == [
        "answer     stored, for everyone",
        "because    its lifetime is max-age of Cache-Control, 1h",
        "fresh for  1h",
        "then       may be served for 1d while the origin fails, for 0s while it is fetched anew",
        'variant    by accept-language: "de"',
        "           by cookie: none",
        "withheld   set-cookie (only who causes the fetch gets it)",
        "purge tags news, film-7",
        "next time  at once, hit: from the spool",
        f"           after 1h, fwd=stale: the origin is asked by If-None-Match{STALE_IF_ERROR}",
        "           after 1d1h, fwd=stale: the origin is asked by If-None-Match",
    ]


def test_no_secret_is_printed() -> None:
    config = configured()
    asked = request(Cookie="sid=s3cret", Authorization="Basic s3cret")
    text = printed(explain(config, asked, answer(MEDIA | {"Vary": "Cookie, Authorization"})))
    assert "s3cret" not in "\n".join(text)
    assert "variant    by authorization: as in this request (a hash is kept)" in text


@pytest.mark.parametrize(
    ("path", "method", "outcome", "why"),
    [
        (
            "/pass",
            "GET",
            "passed on as it is, and not stored",
            ("route p stores nothing (mode passthrough)",),
        ),
        (
            "/a",
            "POST",
            "passed on as it is, and not stored",
            ("only what answers a GET or HEAD without a body is stored",),
        ),
        ("/no", "GET", "none: no origin is asked", ()),
        ("/../a", "GET", "none: no origin is asked", ()),
    ],
)
def test_what_is_not_adapted(path: str, method: str, outcome: str, why: tuple[str, ...]) -> None:
    config = configured(
        {"name": "p", "match": {"path_prefix": "/pass"}, "mode": "passthrough"},
        {"name": "n", "match": {"path_prefix": "/no"}, "mode": "deny"},
        {"name": "rest"},
    )
    asked = request(path, method)
    explained = explain(config, asked, answer(MEDIA))
    assert explained.answer == Prospect(outcome, why)
    assert explain(config, asked).answer is None
