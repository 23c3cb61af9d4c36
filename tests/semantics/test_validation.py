"""What an origin is asked about a stored response, and what its answer does to that."""

from dataclasses import replace

import pytest
from multidict import CIMultiDict

from proxy.semantics.fields import format_http_date
from proxy.semantics.freshness import Scope, Stored, current_age
from proxy.semantics.representation import Representation
from proxy.semantics.validation import conditions, confirms, describes, freshened, is_meant
from proxy.semantics.validators import EntityTag, origin_validators
from tests.semantics.exchanges import Lines

NOW = 1_700_000_000


def date(offset: int = 0) -> str:
    return format_http_date(NOW + offset)


def stored(lines: Lines) -> Stored:
    """A response of 1000 bytes that arrived at NOW."""
    fields = CIMultiDict(lines)
    validators = origin_validators(fields, EntityTag("ours"))
    return Stored(Representation(200, fields, validators, 1000), NOW, NOW)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"ETag": '"x"'}, {"If-None-Match": '"x"'}),
        ({"ETag": 'W/"x"'}, {"If-None-Match": 'W/"x"'}),
        ({"Last-Modified": date(-9)}, {"If-Modified-Since": date(-9)}),
        ({"ETag": '"x"', "Last-Modified": date(-9)}, {"If-None-Match": '"x"', "If-Modified-Since": date(-9)}),
        ({"ETag": "x"}, {}),
        ([("ETag", '"x"'), ("ETag", '"y"')], {}),
        ({"Last-Modified": "last week"}, {}),
        ({}, {}),
    ],
)
def test_the_origin_is_asked_by_its_own_validators(lines: Lines, expected: dict[str, str]) -> None:
    assert conditions(stored(lines)) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"ETag": '"x"'}, {"ETag": '"x"'}, True),
        ({"ETag": '"x"'}, {"ETag": 'W/"x"'}, True),
        ({"ETag": 'W/"x"'}, {"ETag": 'W/"x"'}, True),
        ({"ETag": 'W/"x"'}, {"ETag": '"x"'}, False),
        ({"ETag": '"x"'}, {"ETag": '"y"'}, False),
        ({"ETag": '"x"'}, {"ETag": "y"}, False),
        ({"ETag": '"x"'}, {}, True),
        ({"Last-Modified": date(-9)}, {"ETag": '"x"'}, False),
        ({"Last-Modified": date(-9)}, {"Last-Modified": date(-9)}, True),
        ({"Last-Modified": date(-9)}, {"Last-Modified": date(-8)}, False),
        ({"ETag": '"x"', "Last-Modified": date(-9)}, {"ETag": '"x"', "Last-Modified": date(-8)}, True),
    ],
)
def test_a_304_confirms_what_its_validators_match(ours: Lines, theirs: Lines, expected: bool) -> None:
    assert confirms(stored(ours), CIMultiDict(theirs)) is expected


def test_a_304_renews_what_is_said_about_the_response_and_leaves_its_bytes_alone() -> None:
    old = stored(
        [
            ("Date", date(-100)),
            ("Age", "40"),
            ("Cache-Control", "max-age=5"),
            ("Cache-Control", "must-revalidate"),
            ("Content-Type", "video/mp4"),
            ("Content-Length", "1000"),
            ("Content-Encoding", "gzip"),
            ("ETag", '"x"'),
            ("Last-Modified", date(-500)),
            ("Vary", "Accept-Encoding"),
            ("Repr-Digest", "sha-256=:AAAA:"),
            ("X-Kept", "as it was"),
        ]
    )
    new = freshened(
        old,
        CIMultiDict(
            [
                ("Date", date(20)),
                ("Cache-Control", "public, max-age=60"),
                ("Content-Type", "text/plain"),
                ("Content-Length", "0"),
                ("Content-Encoding", "br"),
                ("Content-Range", "bytes 0-1/2"),
                ("ETag", 'W/"x"'),
                ("Last-Modified", date(-400)),
                ("Vary", "*"),
                ("Content-Digest", "sha-256=:BBBB:"),
                ("Set-Cookie", "session=1"),
                ("Connection", "close, X-Hop"),
                ("X-Hop", "1"),
                ("X-New", "1"),
                ("X-New", "2"),
            ]
        ),
        NOW + 19,
        NOW + 20,
    )
    assert sorted(new.representation.fields.items()) == sorted(
        [
            ("Date", date(20)),
            ("Cache-Control", "public, max-age=60"),
            ("Content-Type", "video/mp4"),
            ("Content-Length", "1000"),
            ("Content-Encoding", "gzip"),
            ("ETag", '"x"'),
            ("Last-Modified", date(-500)),
            ("Vary", "Accept-Encoding"),
            ("Repr-Digest", "sha-256=:AAAA:"),
            ("X-Kept", "as it was"),
            ("X-New", "1"),
            ("X-New", "2"),
        ]
    )
    assert new.representation.validators == old.representation.validators
    assert new.representation.complete_length == 1000
    assert (new.request_time, new.response_time) == (NOW + 19, NOW + 20)
    assert current_age(new, NOW + 20) == 1, "the second that the validation took"


def test_a_304_without_a_date_makes_the_response_as_young_as_its_arrival() -> None:
    old = stored({"Date": date(-5000), "Age": "40", "Cache-Control": "max-age=60"})
    new = freshened(old, CIMultiDict(), NOW + 100, NOW + 100)
    assert current_age(new, NOW + 100) == 0


def test_a_freshened_response_stays_the_variant_and_in_the_scope_it_was() -> None:
    old = replace(stored({}), vary=(("accept-language", "de"),), scope=Scope.PARTITION)
    new = freshened(old, CIMultiDict(), NOW, NOW)
    assert (new.vary, new.scope) == (old.vary, old.scope)


def test_what_was_declared_stale_is_fresh_again_once_the_origin_has_said_so() -> None:
    old = replace(stored({}), stale_since=NOW - 5)
    assert freshened(old, CIMultiDict(), NOW, NOW).stale_since is None


FILM = {"Content-Type": "video/mp4", "ETag": '"x"', "Last-Modified": date(-9)}


@pytest.mark.parametrize(
    ("change", "status", "length", "expected"),
    [
        ({}, 200, 1000, True),
        ({}, 200, None, True),
        ({}, 200, 1001, False),
        ({}, 200, 0, False),
        ({}, 206, 1000, False),
        ({}, 404, 1000, False),
        ({"ETag": 'W/"x"'}, 200, 1000, False),
        ({"ETag": None}, 200, 1000, False),
        ({"Last-Modified": date(-8)}, 200, 1000, False),
        ({"Content-Type": "text/html"}, 200, 1000, False),
        ({"Content-Encoding": "gzip"}, 200, 1000, False),
        ({"X-Other": "1"}, 200, 1000, True),
    ],
)
def test_a_head_speaks_of_what_is_stored_if_nothing_in_it_differs(
    change: dict[str, str | None], status: int, length: int | None, expected: bool
) -> None:
    told = {name: value for name, value in (FILM | change).items() if value is not None}
    assert describes(stored(FILM), status, CIMultiDict(told), length) is expected


def test_a_head_that_names_nothing_to_tell_by_speaks_of_nothing() -> None:
    plain = {"Content-Type": "video/mp4"}
    assert not describes(stored(plain), 200, CIMultiDict(plain), None)
    assert describes(stored(plain), 200, CIMultiDict(plain), 1000)


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ({"ETag": '"x"'}, True),
        ({"ETag": 'W/"x"'}, True),
        ({"ETag": '"y"'}, False),
        ({}, False),
        ({"Last-Modified": date(-9)}, False),
        ({"ETag": '"x"', "Content-Language": "de"}, True),
        ({"ETag": '"x"', "Content-Language": "en"}, False),
        ({"ETag": '"x"', "Content-Location": "/other"}, False),
        ({"ETag": '"x"', "Content-Type": "text/html"}, False),
        ({"ETag": '"x"', "Content-Encoding": "gzip"}, False),
    ],
)
def test_a_304_means_another_requests_response_only_if_nothing_in_it_differs(
    theirs: Lines, expected: bool
) -> None:
    assert is_meant(stored(FILM | {"Content-Language": "de"}), CIMultiDict(theirs)) is expected


def test_a_304_that_sets_a_cookie_renews_the_lifetime_alone() -> None:
    old = stored({"ETag": '"x"', "Cache-Control": "max-age=5", "Date": date(-9), "X-Old": "1"})
    told = {"Cache-Control": "max-age=9", "Date": date(), "Set-Cookie": "a=1", "X-CSRF-Token": "hers"}
    fields = freshened(old, CIMultiDict(told), NOW, NOW).representation.fields
    assert dict(fields) == {"ETag": '"x"', "Cache-Control": "max-age=9", "Date": date(), "X-Old": "1"}
