"""What a shared cache may store, and for whom."""

from dataclasses import replace

import pytest
from multidict import CIMultiDict

from proxy.semantics.freshness import Scope
from proxy.semantics.policy import CachePolicy
from proxy.semantics.request import ClientRequest
from proxy.semantics.reuse import usable_shared
from proxy.semantics.storing import NoStore, Pass, Store, judge
from tests.semantics.answers import BASIC, COOKIE, HTML, NOW, POLICY, TAG, VIDEO, cc, date, fetched, page
from tests.semantics.exchanges import Lines, request


def verdict(
    lines: Lines, *, status: int = 200, asked: ClientRequest | None = None, policy: CachePolicy = POLICY
) -> Scope | NoStore:
    judgement = judge(asked or request(), status, CIMultiDict(lines), policy, NOW)
    return judgement.scope if isinstance(judgement, Store) else judgement.reason


def kept(lines: Lines, *, asked: ClientRequest | None = None, policy: CachePolicy = POLICY) -> Store:
    judgement = judge(asked or request(), 200, CIMultiDict(lines), policy, NOW)
    assert isinstance(judgement, Store)
    return judgement


# --- What may be stored ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (VIDEO, Scope.SHARED),
        ({}, Scope.SHARED),
        (VIDEO | {"Last-Modified": date(-9)}, Scope.SHARED),
        (HTML, NoStore.NO_FRESHNESS),
        (HTML | TAG, NoStore.NO_FRESHNESS),
        (HTML | cc("public"), NoStore.NO_FRESHNESS),
        (HTML | cc("max-age=60"), Scope.SHARED),
        (HTML | {"Expires": date(60)}, Scope.SHARED),
        (HTML | cc("max-age=0"), NoStore.NO_VALIDATOR),
        (HTML | cc("max-age=0") | TAG, Scope.SHARED),
        (HTML | cc("no-cache"), NoStore.NO_VALIDATOR),
        (HTML | cc("no-cache") | {"Last-Modified": date(-9)}, Scope.SHARED),
        (HTML | {"Pragma": "no-cache"}, NoStore.NO_VALIDATOR),
        (HTML | {"Expires": "0"} | TAG, Scope.SHARED),
        (VIDEO | cc("max-age=0"), NoStore.NO_VALIDATOR),
        (VIDEO | cc("max-age=0") | TAG, Scope.SHARED),
        (VIDEO | cc("no-cache"), NoStore.NO_VALIDATOR),
        (VIDEO | cc("no-cache") | {"Last-Modified": date(-9)}, Scope.SHARED),
        (VIDEO | {"Pragma": "no-cache"}, NoStore.NO_VALIDATOR),
        (VIDEO | cc("no-store"), NoStore.NO_STORE),
        (VIDEO | cc("max-age=60, no-store"), NoStore.NO_STORE),
        (VIDEO | cc("private"), NoStore.PRIVATE),
        (VIDEO | cc("private, max-age=60, public"), NoStore.PRIVATE),
        (VIDEO | cc('private="x-user"'), Scope.SHARED),
        (VIDEO | cc('private="x-user", private'), NoStore.PRIVATE),
        (VIDEO | {"Vary": "*"}, NoStore.VARY_STAR),
        (VIDEO | {"Vary": "Accept, *"}, NoStore.VARY_STAR),
        (VIDEO | {"Set-Cookie": "a=1"}, NoStore.SET_COOKIE),
        (VIDEO | {"Set-Cookie": "a=1"} | cc("max-age=60"), NoStore.SET_COOKIE),
        (VIDEO | {"Set-Cookie": "a=1"} | cc("public"), Scope.SHARED),
        (VIDEO | {"Set-Cookie": "a=1"} | cc('no-cache="set-cookie"'), Scope.SHARED),
        ({"Content-Type": "multipart/x-mixed-replace; boundary=f"} | cc("max-age=60"), NoStore.STREAM),
        ({"Content-Type": "Text/Event-Stream"} | cc("max-age=60"), NoStore.STREAM),
        (VIDEO | cc("no-store, must-understand"), Scope.SHARED),
    ],
)
def test_a_200_is_stored_as_its_fields_allow(lines: Lines, expected: Scope | NoStore) -> None:
    assert verdict(lines) is expected


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_these_statuses_may_be_stored_and_validated_though_nothing_says_for_how_long(status: int) -> None:
    assert verdict(HTML | cc("no-cache") | TAG, status=status) is Scope.SHARED
    assert verdict(HTML | cc("max-age=60"), status=status) is Scope.SHARED
    assert verdict(HTML, status=status) is NoStore.NO_FRESHNESS


@pytest.mark.parametrize("status", [201, 202, 299, 302, 303, 307, 403, 418, 500, 502, 503, 504])
def test_others_need_a_word_of_their_origin(status: int) -> None:
    assert verdict(HTML | cc("no-cache") | TAG, status=status) is NoStore.STATUS
    assert verdict(VIDEO, status=status) is NoStore.STATUS
    assert verdict(HTML | cc("max-age=60"), status=status) is Scope.SHARED
    assert verdict(HTML | {"Expires": date(60)}, status=status) is Scope.SHARED
    assert verdict(HTML | cc("public, no-cache") | TAG, status=status) is Scope.SHARED


@pytest.mark.parametrize(
    "status", [101, 103, 304, 400, 401, 407, 408, 412, 413, 416, 417, 421, 428, 429, 431, 511]
)
def test_what_blames_one_request_is_never_stored_for_others(status: int) -> None:
    assert verdict(VIDEO | TAG | cc("public, max-age=60"), status=status) is NoStore.STATUS


def test_a_partial_answer_is_never_stored() -> None:
    lines = VIDEO | {"Content-Range": "bytes 0-1/2"} | cc("public, max-age=60")
    assert verdict(lines, status=206) is NoStore.PARTIAL


def test_must_understand_stores_what_is_understood_and_nothing_else() -> None:
    assert verdict(HTML | cc("max-age=60, must-understand"), status=307) is Scope.SHARED
    assert verdict(HTML | cc("max-age=60, must-understand, no-store"), status=307) is Scope.SHARED
    assert verdict(HTML | cc("max-age=60, must-understand"), status=299) is NoStore.STATUS


def test_only_the_ttl_of_a_200_media_answer_is_the_routes() -> None:
    assert verdict(VIDEO) is Scope.SHARED
    assert verdict(VIDEO, status=404) is NoStore.NO_FRESHNESS


def test_what_a_request_says_of_caches_counts_and_not_which_part_it_wants() -> None:
    assert verdict(VIDEO, asked=request(cc("no-store"))) is NoStore.REQUEST_NO_STORE
    assert verdict(VIDEO, asked=request({"Range": "bytes=0-1", "If-None-Match": "*"})) is Scope.SHARED


def test_the_routes_ttl_wins_over_a_disrespected_origin_but_not_over_no_store_and_private() -> None:
    policy = CachePolicy(respect_origin=False, ttl=5)
    assert verdict(VIDEO | cc("no-cache"), policy=policy) is Scope.SHARED
    assert verdict(VIDEO | cc("no-store"), policy=policy) is NoStore.NO_STORE
    assert verdict(VIDEO | cc("private"), policy=policy) is NoStore.PRIVATE


# --- For whom -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "lines", "expected"),
    [
        (BASIC, VIDEO, Scope.PARTITION),
        (BASIC, cc("max-age=60"), Scope.PARTITION),
        (BASIC, {"Expires": date(60)}, Scope.PARTITION),
        (BASIC, cc("public"), Scope.SHARED),
        (BASIC, cc("s-maxage=60"), Scope.SHARED),
        (BASIC, cc("max-age=60, must-revalidate"), Scope.SHARED),
        (BASIC, cc("must-revalidate"), Scope.PARTITION),
        (BASIC, cc("proxy-revalidate, max-age=60"), Scope.PARTITION),
        (COOKIE, VIDEO, Scope.PARTITION),
        (COOKIE, TAG, Scope.PARTITION),
        (COOKIE, cc("public"), Scope.SHARED),
        (COOKIE, cc("max-age=60"), Scope.SHARED),
        (COOKIE, {"Expires": date(60)}, Scope.SHARED),
        (COOKIE, {"Expires": "0"}, Scope.PARTITION),
        (COOKIE, cc("max-age=0"), Scope.PARTITION),
        (COOKIE, cc("no-cache"), Scope.PARTITION),
        (COOKIE, cc("must-revalidate"), Scope.PARTITION),
        ({"Cookie": "_ga=1; _gid=2; _hjSession=3"}, VIDEO, Scope.SHARED),
        ({"Cookie": "_ga=1; session=2"}, VIDEO, Scope.PARTITION),
        ({"Cookie": "_GA=1"}, VIDEO, Scope.PARTITION),
        ({"Cookie": ""}, VIDEO, Scope.SHARED),
        (BASIC | COOKIE, cc("max-age=60"), Scope.PARTITION),
        (BASIC | COOKIE, cc("s-maxage=60"), Scope.SHARED),
        (BASIC | COOKIE, cc("s-maxage=0"), Scope.PARTITION),
        (BASIC | COOKIE, cc("public"), Scope.SHARED),
    ],
)
def test_an_answer_to_credentials_is_shared_only_if_its_origin_says_so(
    credentials: dict[str, str], lines: dict[str, str], expected: Scope
) -> None:
    assert verdict(VIDEO | TAG | lines, asked=request(credentials)) is expected
    anonymous = fetched(VIDEO | TAG | lines)
    assert usable_shared(anonymous, request(credentials), POLICY) is (expected is Scope.SHARED)
    assert usable_shared(anonymous, request(), POLICY), "the anonymous may always have what they fetched"


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("Basic dTpw", Scope.PARTITION),
        ("bearer  abc", Scope.PARTITION),
        ("BEARER abc", Scope.PARTITION),
        ('Digest username="u", nc=00000001', NoStore.CREDENTIALS),
        ("AWS4-HMAC-SHA256 Credential=a", NoStore.CREDENTIALS),
        ("Negotiate YII=", NoStore.CREDENTIALS),
        ("Basically x", NoStore.CREDENTIALS),
        ("", NoStore.CREDENTIALS),
    ],
)
def test_credentials_that_change_with_each_request_have_nothing_kept_for_them(
    authorization: str, expected: Scope | NoStore
) -> None:
    asked = request({"Authorization": authorization})
    assert verdict(VIDEO, asked=asked) is expected
    assert verdict(VIDEO, asked=request({"Authorization": authorization} | COOKIE)) is expected
    assert verdict(VIDEO | cc("public"), asked=asked) is Scope.SHARED
    assert verdict(VIDEO, asked=asked, policy=CachePolicy(shared=True)) is Scope.SHARED


def test_what_is_in_a_partition_is_usable_to_whoever_has_its_key() -> None:
    mine = fetched(VIDEO, asked=request(COOKIE))
    assert mine.scope is Scope.PARTITION
    assert usable_shared(mine, request(COOKIE), POLICY)


def test_a_shared_route_ignores_credentials_and_drops_cookies() -> None:
    policy = CachePolicy(shared=True)
    store = kept(VIDEO | {"Set-Cookie": "a=1"}, asked=request(BASIC | COOKIE), policy=policy)
    assert store.scope is Scope.SHARED
    assert "Set-Cookie" not in store.fields
    assert usable_shared(fetched(VIDEO), request(BASIC | COOKIE), policy)


# --- With which fields, as which variant ----------------------------------------------------------


def test_fields_for_one_client_or_one_hop_are_not_stored() -> None:
    store = kept(
        [
            *VIDEO.items(),
            ("Cache-Control", 'public, private="X-User", no-cache="X-Once"'),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=1"),
            ("X-User", "ann"),
            ("x-once", "1"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("X-Stays", "1"),
        ]
    )
    assert set(store.fields) == {"Content-Type", "Cache-Control", "X-Stays", "Date"}


def test_a_missing_date_is_that_of_arrival() -> None:
    assert kept(VIDEO).fields["Date"] == date()
    assert kept(VIDEO | {"Date": date(-5)}).fields["Date"] == date(-5)


def test_the_variant_is_what_vary_nominates_of_the_request() -> None:
    store = kept(VIDEO | {"Vary": "Accept-Language, X-B"}, asked=request({"Accept-Language": "de"}))
    assert store.vary == (("accept-language", "de"), ("x-b", None))


@pytest.mark.parametrize(
    ("path_asked", "lines", "expected"),
    [
        (request({"Accept-Encoding": "gzip"}), VIDEO | {"Vary": "Accept-Encoding"}, ()),
        (page({"Accept-Encoding": "gzip"}), VIDEO | {"Vary": "Accept-Encoding"}, ()),
        (
            page({"Accept-Encoding": "gzip"}),
            HTML | {"Vary": "Accept-Encoding"},
            (("accept-encoding", "gzip"),),
        ),
        (page({"Accept-Encoding": "gzip"}), HTML, ()),
        (
            page({"Accept-Encoding": "gzip"}),
            HTML | {"Content-Encoding": "gzip"},
            (("accept-encoding", "gzip"),),
        ),
        (
            page({"Accept-Encoding": "gzip"}),
            VIDEO | {"Content-Encoding": "gzip"},
            (("accept-encoding", "gzip"),),
        ),
        (
            request({"Accept-Encoding": "gzip"}),
            VIDEO | {"Content-Encoding": "gzip"},
            (("accept-encoding", "identity"),),
        ),
    ],
)
def test_a_coded_answer_is_its_own_variant_and_uncoded_media_are_one(
    path_asked: ClientRequest, lines: dict[str, str], expected: tuple[tuple[str, str | None], ...]
) -> None:
    assert kept(lines | cc("max-age=60"), asked=path_asked).vary == expected


@pytest.mark.parametrize("status", [301, 404, 410, 500])
def test_what_a_query_that_is_not_in_the_key_made_is_not_stored(status: int) -> None:
    policy = CachePolicy(query_in_key=False)
    fields = CIMultiDict(cc("max-age=60"))
    asked = replace(request(), query="x=1")
    assert judge(asked, status, fields, policy, NOW) == Pass(NoStore.UNKEYED_QUERY)
    assert isinstance(judge(asked, 200, fields, policy, NOW), Store)
    assert isinstance(judge(request(), status, fields, policy, NOW), Store)
    assert isinstance(judge(asked, status, fields, CachePolicy(), NOW), Store)


@pytest.mark.parametrize(
    ("asks", "may_read", "varies"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "*", False),
        ("https://a.example", "https://b.example", False),
        (None, "https://a.example", False),
        ("https://a.example", None, False),
    ],
)
def test_an_answer_that_repeats_who_may_read_it_is_for_that_site(
    asks: str | None, may_read: str | None, varies: bool
) -> None:
    lines = VIDEO | ({"Access-Control-Allow-Origin": may_read} if may_read else {})
    stored = kept(lines, asked=request({"Origin": asks} if asks else {}))
    assert stored.vary == ((("origin", asks),) if varies else ())
