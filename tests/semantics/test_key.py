"""Cache keys: targets, partitions and variants."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.key import (
    DIGEST_SIZE,
    LONGEST_VALUE,
    KeyRules,
    accept_encoding,
    counting_cookies,
    credentials,
    key_fields,
    location,
    partition,
    primary_key,
    selecting,
)
from proxy.semantics.normalization import authority, normalised
from proxy.semantics.policy import Authorize, CachePolicy
from proxy.semantics.purging import Location
from proxy.semantics.request import ClientRequest
from tests.semantics.exchanges import Lines, request
from tests.semantics.spellings import queries, respellings

ALL = KeyRules()
ORIGIN = "http://legacy:8080"
SECRET = b"s" * 32
POLICY = CachePolicy()


def digest(path: str, query: str | None = None, *, host: str = "example.com", rules: KeyRules = ALL) -> bytes:
    return primary_key(ORIGIN, host, path, query, rules).digest


# --- Targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a%7eb", "/a~b"),
        ("/%41", "/A"),
        ("/a%2fb", "/a%2Fb"),
        ("/%e4%f6", "/%E4%F6"),
        ("/%2e%2e/a", "/../a"),
    ],
)
def test_percent_encoding_that_means_the_same_makes_the_same_key(one: str, other: str) -> None:
    assert digest(one) == digest(other)
    assert digest("/", one) == digest("/", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a%2Fb", "/a/b"),
        ("/a/", "/a"),
        ("/a//b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a%20b", "/a+b"),
        ("/A", "/a"),
        ("/%2541", "/%41"),
        ("/%zz", "/%ZZ"),
        ("/%", "/%25"),
        ("/a%2520", "/a%20"),
        ("/ä", "/%C3%A4"),
    ],
)
def test_whatever_might_differ_at_some_origin_makes_another_key(one: str, other: str) -> None:
    assert digest(one) != digest(other)


def test_a_bare_question_mark_is_a_query_of_its_own() -> None:
    assert len({digest("/a", None), digest("/a", ""), digest("/a", "b"), digest("/a?b", None)}) == 4


def test_the_order_of_a_query_counts() -> None:
    assert digest("/", "a=1&b=2") != digest("/", "b=2&a=1")


def test_parts_that_the_rules_leave_out_do_not_count() -> None:
    without_query = KeyRules(("host", "path"))
    assert digest("/a", "x=1", rules=without_query) == digest("/a", "x=2", rules=without_query)
    without_host = KeyRules(("path", "query"))
    assert digest("/a", host="a.com", rules=without_host) == digest("/a", host="b.com", rules=without_host)
    assert digest("/a") != digest("/a", rules=without_host)


def test_origin_scheme_host_and_partition_each_make_another_key() -> None:
    keys = {
        primary_key(ORIGIN, "a.com", "/", None, ALL).digest,
        primary_key("http://other", "a.com", "/", None, ALL).digest,
        primary_key(ORIGIN, "b.com", "/", None, ALL).digest,
        primary_key(ORIGIN, "a.com", "/", None, ALL, scheme="https").digest,
        primary_key(ORIGIN, "a.com", "/", None, ALL, partition=b"p" * 16).digest,
    }
    assert len(keys) == 5
    assert {len(key) for key in keys} == {DIGEST_SIZE}


@pytest.mark.parametrize("spelling", ["Example.COM", "example.com:80", "example.com:", "example.com."])
def test_spellings_of_one_host_make_one_key(spelling: str) -> None:
    assert digest("/", host=spelling) == digest("/", host="example.com")


def test_the_port_of_another_scheme_counts() -> None:
    assert digest("/", host="a.com:443") != digest("/", host="a.com")
    tls = [primary_key(ORIGIN, host, "/", None, ALL, scheme="https") for host in ("a.com:443", "a.com")]
    assert tls[0] == tls[1]


def test_an_empty_path_is_the_root() -> None:
    assert digest("") == digest("/")


parts = st.text(alphabet="a/?%:0-\x00", max_size=6)


def meant(origin: str, host: str, path: str, query: str | None) -> tuple[str, str, str, str | None]:
    return origin, authority(host, "http"), path or "/", query


@given(st.tuples(parts, parts, parts, st.none() | parts), st.tuples(parts, parts, parts, st.none() | parts))
def test_no_two_different_targets_run_together_into_one_key(
    one: tuple[str, str, str, str | None], other: tuple[str, str, str, str | None]
) -> None:
    # None of these parts holds a complete percent-encoding of an unreserved character.
    same = primary_key(*one, ALL).digest == primary_key(*other, ALL).digest
    assert same is (meant(*one) == meant(*other))


def test_what_is_guarded_has_another_key_and_no_partition() -> None:
    guarded = primary_key("o", "h", "/a", None, KeyRules(guarded=True))
    assert guarded.digest != primary_key("o", "h", "/a", None, KeyRules()).digest
    assert guarded.text == "o http://h/a (guarded)"
    policy = CachePolicy(authorize=Authorize())
    asked = request([("Cookie", "session=1")])
    assert partition(asked, policy, SECRET) is None
    assert credentials(asked, policy, SECRET) == partition(asked, CachePolicy(), SECRET) is not None


def test_the_text_of_a_key_is_for_people_and_printable() -> None:
    key = primary_key("legacy", "example.com", "/a b\x1b[31m/%7e/ä\udcff", "q=\n", ALL, scheme="https")
    assert key.text == "legacy https://example.com/a%20b%1B[31m/~/%C3%A4%FF?q=%0A"
    owned = primary_key("legacy", "example.com", "/a", None, KeyRules(("path",)), partition=b"\x12" * 16)
    assert owned.text == "legacy http://*/a?* (partition 12121212)"
    host_only = primary_key("legacy", "example.com", "/a", "b", KeyRules(("host", "query")))
    assert host_only.text == "legacy http://example.com/*?b"


def test_the_text_of_a_key_tells_no_value_of_a_field() -> None:
    text = primary_key(
        "legacy", "h", "/", None, ALL, fields=(("x-api-key", "secret"), ("x-tenant", None))
    ).text
    assert text.startswith("legacy http://h/ (x-api-key ")
    assert text.endswith(") (no x-tenant)")
    assert "secret" not in text


def test_rules_of_another_day_do_not_find_what_these_have_stored() -> None:
    """An answer to `/a?b`, stored without regard to the query, is no answer to `/a`."""
    assert digest("/a", "b", rules=KeyRules(("host", "path"))) != digest("/a")


# --- Parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "query", "left"),
    [
        (ALL, "b&&a=1&", "b&&a=1&"),
        (KeyRules(keep=("id",)), "id=1&x=2&id=3", "id=1&id=3"),
        (KeyRules(keep=("id",), drop=("i*",)), "id=1", None),
        (KeyRules(drop=("*",)), "", None),
        (KeyRules(sort=True), "b=1&a=2", "a=2&b=1"),
        (KeyRules(("host", "path"), keep=("id",), sort=True), "x=1&id=2", "x=1&id=2"),
    ],
)
def test_what_is_left_of_a_query(rules: KeyRules, query: str, left: str | None) -> None:
    assert rules.reduced(query) == left
    assert rules.reduced(None) is None


@given(queries, st.sampled_from([KeyRules(keep=("a", "b*")), KeyRules(drop=("a",)), KeyRules(sort=True)]))
def test_a_key_is_made_of_what_the_origin_is_asked_for(query: str, rules: KeyRules) -> None:
    asked = rules.reduced(query)
    assert digest("/", query, rules=rules) == digest("/", asked, rules=rules)
    assert rules.reduced(asked) == asked


@given(queries, queries)
def test_parameters_that_are_sent_to_the_origin_tell_keys_apart(one: str, other: str) -> None:
    rules = KeyRules(drop=("a",), sort=True)
    asked = [None if left is None else normalised(left) for left in map(rules.reduced, (one, other))]
    same = digest("/", one, rules=rules) == digest("/", other, rules=rules)
    assert same is (asked[0] == asked[1])


@given(st.data(), queries)
def test_a_target_spelled_otherwise_has_the_same_key(data: st.DataObject, query: str) -> None:
    for rules in (ALL, KeyRules(drop=("a",), sort=True), KeyRules(keep=("b*", "~"))):
        host = data.draw(st.sampled_from(["h.com", "H.com", "h.com.", "h.com:80", "h.COM.:"]))
        respelled = data.draw(respellings(query))
        key = digest(data.draw(respellings("/a~b/%3A")), respelled, host=host, rules=rules)
        assert key == digest("/a~b/%3A", query, host="h.com", rules=rules)


# --- Fields of the request ------------------------------------------------------------------------

TENANTS = KeyRules(fields=("x-tenant",))


def said(lines: Lines) -> str | None:
    [(name, value)] = key_fields(request(lines), TENANTS)
    assert name == "x-tenant"
    return value


def test_a_key_field_in_its_normal_form() -> None:
    assert said({}) is None
    assert said({"X-Tenant": " \t"}) == ""
    assert said({"x-tenant": " a "}) == "a"
    assert said([("X-Tenant", "a"), ("X-Tenant", "b ,c")]) == "a, b, c"
    assert said({"X-Tenant": "a, b"}) == said({"X-Tenant": "a\t,b"}) != said({"X-Tenant": "b, a"})
    assert key_fields(request({"X-Tenant": "a"}), ALL) == ()


def test_a_key_field_that_the_origin_does_not_hear_is_absent() -> None:
    assert said({"X-Tenant": "a", "Connection": "x-tenant"}) is None


def test_what_an_origin_tells_apart_is_not_made_the_same() -> None:
    values = ("a", "a,", "A", '"a"', '"a,b"', '"a, b"', "a,b", "a b", "\u00a0a")
    assert len({said({"X-Tenant": value}) for value in values}) == len(values)


def test_a_spelling_that_cgi_takes_for_the_same_has_a_value_of_its_own() -> None:
    sneaky = said({"X-Tenant": "a", "X_Tenant": "b"})
    assert (
        len({sneaky, said({"X-Tenant": "a"}), said({"X_Tenant": "b"}), said({}), said({"X_Tenant": "c"})})
        == 5
    )
    assert said({"X-Tenant": str(sneaky)}) != sneaky


def test_long_values_are_kept_as_a_hash() -> None:
    longest, longer = "a" * LONGEST_VALUE, "a" * (LONGEST_VALUE + 1)
    assert said({"X-Tenant": longest}) == longest
    hashed = said({"X-Tenant": longer})
    assert hashed is not None
    assert len(hashed) < 64
    assert hashed != said({"X-Tenant": longer + "a"})
    assert said({"X-Tenant": hashed}) != hashed


def test_each_value_of_a_key_field_makes_another_key() -> None:
    keys = {
        primary_key(ORIGIN, "h", "/", None, TENANTS, fields=fields).digest
        for fields in (
            (),
            (("x-tenant", None),),
            (("x-tenant", ""),),
            (("x-tenant", "a"),),
            (("x-other", "a"),),
            (("x-tenant", "a"), ("x-other", None)),
        )
    }
    assert len(keys) == 6


# --- Where clients find it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (ALL, Location("h.com", "/~a?b=%2F&utm=1&a")),
        (KeyRules(drop=("utm",), sort=True), Location("h.com", "/~a?a&b=%2F")),
        (KeyRules(drop=("*",)), Location("h.com", "/~a")),
        (KeyRules(("path",)), Location(None, "/~a")),
    ],
)
def test_a_location_is_the_same_for_all_who_share_a_key(rules: KeyRules, expected: Location) -> None:
    asked = replace(request(), host="H.com:80", path="/%7ea", query="b=%2f&utm=1&a")
    assert location(asked, rules) == expected


# --- Partitions -----------------------------------------------------------------------------------


def whose(lines: Lines, policy: CachePolicy = POLICY, secret: bytes = SECRET) -> bytes | None:
    return partition(request(lines), policy, secret)


def test_without_credentials_there_is_no_partition() -> None:
    assert whose({}) is None
    assert whose({"Cookie": "_ga=1; _gid=2"}) is None
    assert whose({"Cookie": " ; "}) is None


def test_each_set_of_credentials_has_its_own_partition() -> None:
    partitions = {
        whose({"Cookie": "session=1"}),
        whose({"Cookie": "session=2"}),
        whose({"Authorization": "Basic YTpi"}),
        whose({"Authorization": "session=1"}),
        whose({"Authorization": ""}),
        whose({"Authorization": "Basic YTpi", "Cookie": "session=1"}),
        whose({"Cookie": "session=1"}, secret=b"t" * 32),
    }
    assert len(partitions) == 7
    assert None not in partitions
    assert {len(each) for each in partitions if each} == {DIGEST_SIZE}


def test_the_same_cookies_in_another_order_or_with_analytics_are_the_same_credentials() -> None:
    assert whose({"Cookie": "a=1; b=2"}) == whose({"Cookie": "b=2;a=1; _ga=GA1.2"})
    assert whose({"Cookie": "a=1; b=2"}) == whose([("Cookie", "a=1"), ("Cookie", "b=2")])


def test_a_cookie_sent_twice_keeps_its_order() -> None:
    assert whose({"Cookie": "a=1; a=2"}) != whose({"Cookie": "a=2; a=1"})


def test_a_shared_route_has_no_partitions() -> None:
    assert whose({"Authorization": "Basic YTpi"}, CachePolicy(shared=True)) is None


def test_a_cookie_without_a_name_counts() -> None:
    assert counting_cookies(CIMultiDict({"Cookie": "secret; _ga=1"}), POLICY.ignore_cookies) == ("secret",)


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        ((), ("_ga=1", "a=2", "ab=3")),
        (("a",), ("_ga=1", "ab=3")),
        (("a*",), ("_ga=1",)),
        (("*a*", "x*y*z"), ()),
        (("A", "_g?"), ("a=2", "ab=3")),
    ],
)
def test_ignored_cookies_are_named_by_globs_for_their_whole_name(
    globs: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert counting_cookies(CIMultiDict({"Cookie": "a=2; _ga=1; ab=3"}), globs) == expected


# --- Variants -------------------------------------------------------------------------------------


def test_nominated_fields_are_sorted_in_lower_case_with_absent_ones_as_none() -> None:
    asked = request([("Accept-Language", "de ,en"), ("accept-language", "fr"), ("X-A", " 1 ")])
    assert selecting(["X-A", "Accept-Language", "x-a", "X-B"], asked) == (
        ("accept-language", "de, en, fr"),
        ("x-a", "1"),
        ("x-b", None),
    )


def test_credentials_do_not_stand_in_a_variant_in_clear() -> None:
    asked = request({"Cookie": "session=top", "Authorization": "Basic top"})
    values = [value for _, value in selecting(["Cookie", "Authorization"], asked)]
    assert all(value and "top" not in value for value in values)
    assert len(set(values)) == 2


def test_fields_that_a_fill_withholds_or_rewrites_do_not_select_by_what_the_client_claimed() -> None:
    claims = {
        "Range": "bytes=0-1",
        "X-HTTP-Method-Override": "DELETE",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-For": "1.1.1.1",
        "X-Forwarded-Port": "1",
        "X-Real-IP": "1.1.1.1",
    }
    assert selecting(claims, request(claims)) == (
        ("range", None),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "example.com"),
        ("x-forwarded-port", None),
        ("x-forwarded-proto", "http"),
        ("x-http-method-override", None),
        ("x-real-ip", None),
    )


def test_the_host_selects_in_the_spelling_that_the_origin_hears() -> None:
    asked = replace(request(), host="Example.com.:80")
    assert selecting(["Host", "X-Forwarded-Host"], asked) == (
        ("host", "example.com"),
        ("x-forwarded-host", "example.com"),
    )


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        ("User-Agent", "a,b  (c , d) ", "a,b  (c , d)"),
        ("Referer", "http://a/?b,c", "http://a/?b,c"),
        ("Accept-Language", "DE-at ,,en;q=0.5", "de-at, en;q=0.5"),
        ("Accept-Charset", "UTF-8,  Latin1", "utf-8, latin1"),
        ("Accept", "text/HTML,*/*;q=0.1", "text/HTML, */*;q=0.1"),
        ("Prefer", "a,b ,c", "a, b, c"),
        ("Sec-CH-UA", '"A,B";v="1",  "C"', '"A,B";v="1",  "C"'),
    ],
)
def test_normal_forms(name: str, value: str, normal: str) -> None:
    assert selecting([name], request({name: value})) == ((name.lower(), normal),)


def test_long_values_select_by_a_hash() -> None:
    [(_, value)] = selecting(["User-Agent"], request({"User-Agent": "a" * 5000}))
    assert value is not None
    assert len(value) < 64
    [(_, other)] = selecting(["User-Agent"], request({"User-Agent": "a" * 4999}))
    assert other != value


def test_an_odd_spelling_of_a_name_selects_a_variant_of_its_own() -> None:
    plain = selecting(["X-Lang"], request({"X-Lang": "de"}))
    assert selecting(["X-Lang"], request({"X-Lang": "de", "X_Lang": "fr"})) != plain
    assert selecting(["X-Lang"], request({"X-Lang": "de", "Y_Lang": "fr"})) == plain


def test_a_field_that_connection_nominates_never_reached_the_origin() -> None:
    assert selecting(["X-Lang"], request({"X-Lang": "de", "Connection": "X-Lang"})) == (("x-lang", None),)


def at(path: str, lines: Lines) -> ClientRequest:
    return replace(request(lines), target=path, path=path)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (at("/page", {}), "identity"),
        (at("/page", {"Accept-Encoding": "gzip, deflate, br, zstd"}), "br, gzip, zstd"),
        (at("/page", {"Accept-Encoding": "BR;q=0.1,  Gzip"}), "br, gzip"),
        (at("/page", {"Accept-Encoding": "br;q=0, gzip;q=0.0, zstd; Q=0.001"}), "zstd"),
        (at("/page", {"Accept-Encoding": "*"}), "identity"),
        (at("/page", {"Accept-Encoding": "made-up, gzip" + ", junk" * 999}), "gzip"),
        (at("/page", {"Accept-Encoding": "gzip", "Range": "bytes=0-1"}), "identity"),
        (at("/a.mp4", {"Accept-Encoding": "gzip"}), "identity"),
        (at("/A.PDF", {"Accept-Encoding": "gzip"}), "identity"),
        (at("/a.mp4/index", {"Accept-Encoding": "gzip"}), "gzip"),
        (at("/mp4", {"Accept-Encoding": "gzip"}), "gzip"),
    ],
)
def test_who_reads_ranges_asks_for_no_coding_and_others_for_one_of_few_sets(
    asked: ClientRequest, expected: str
) -> None:
    assert accept_encoding(asked) == expected
    assert selecting(["Accept-Encoding"], asked) == (("accept-encoding", expected),)
