"""Cache keys: targets, partitions and variants."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.key import (
    DIGEST_SIZE,
    KeyRules,
    accept_encoding,
    counting_cookies,
    partition,
    primary_key,
    selecting,
)
from proxy.semantics.policy import CachePolicy
from proxy.semantics.request import ClientRequest
from tests.semantics.exchanges import Lines, request

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
        primary_key(ORIGIN, "a.com", "/", None, ALL, scheme="http").digest,
        primary_key(ORIGIN, "a.com", "/", None, ALL, partition=b"p" * 16).digest,
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {DIGEST_SIZE}


def test_a_host_is_the_same_in_any_case() -> None:
    assert digest("/", host="Example.COM") == digest("/", host="example.com")


parts = st.text(alphabet="a/?%:0-\x00", max_size=6)


@given(st.tuples(parts, parts, parts, st.none() | parts), st.tuples(parts, parts, parts, st.none() | parts))
def test_no_two_different_targets_run_together_into_one_key(
    one: tuple[str, str, str, str | None], other: tuple[str, str, str, str | None]
) -> None:
    # None of these parts holds a complete percent-encoding of an unreserved character.
    same = primary_key(*one, ALL).digest == primary_key(*other, ALL).digest
    assert same is (one == other)


def test_the_text_of_a_key_is_for_people_and_printable() -> None:
    key = primary_key(ORIGIN, "example.com", "/a b\x1b[31m/%7e/ä\udcff", "q=\n", ALL, scheme="https")
    assert key.text == "https://example.com/a%20b%1B[31m/~/%C3%A4%FF?q=%0A"
    owned = primary_key(ORIGIN, "example.com", "/a", None, KeyRules(("path",)), partition=b"\x12" * 16)
    assert owned.text == "http://legacy:8080/a (partition 12121212)"


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
    }
    assert selecting(claims, request(claims)) == (
        ("range", None),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "example.com"),
        ("x-forwarded-port", None),
        ("x-forwarded-proto", "http"),
        ("x-http-method-override", None),
    )


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
