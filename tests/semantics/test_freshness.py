"""How long a stored response is fresh, how old it is, and what a 304 does to it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.fields import MAX_LENGTH, format_http_date
from proxy.semantics.freshness import (
    Basis,
    Lifetime,
    Scope,
    Stored,
    confirms,
    current_age,
    demands_validation,
    explicit_lifetime,
    forbids_stale,
    freshened,
    lifetime,
    origin_conditions,
)
from proxy.semantics.policy import CachePolicy
from proxy.semantics.representation import Representation
from proxy.semantics.validators import EntityTag, origin_validators
from tests.semantics.exchanges import Lines

NOW = 1_700_000_000
POLICY = CachePolicy()
VIDEO = {"Content-Type": "video/mp4"}
HTML = {"Content-Type": "text/html; charset=utf-8"}


def date(offset: int = 0) -> str:
    return format_http_date(NOW + offset)


def stored(lines: Lines, *, status: int = 200, took: int = 0) -> Stored:
    """A response that arrived at NOW, `took` seconds after its request was sent."""
    fields = CIMultiDict(lines)
    validators = origin_validators(fields, EntityTag("ours"))
    return Stored(Representation(status, fields, validators, 1000), NOW - took, NOW)


# --- Lifetime -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"Cache-Control": "max-age=60"}, Lifetime(60, Basis.MAX_AGE)),
        ({"Cache-Control": "max-age=60, s-maxage=5"}, Lifetime(5, Basis.S_MAXAGE)),
        ({"Cache-Control": "max-age=60", "Expires": date(5), "Date": date()}, Lifetime(60, Basis.MAX_AGE)),
        ({"Expires": date(90), "Date": date(-10)}, Lifetime(100, Basis.EXPIRES)),
        ({"Expires": date(90)}, Lifetime(90, Basis.EXPIRES)),
        ({"Expires": date(-90), "Date": date()}, Lifetime(0, Basis.EXPIRES)),
        ({"Expires": "0"}, Lifetime(0, Basis.EXPIRES)),
        ({"Expires": "-1"}, Lifetime(0, Basis.EXPIRES)),
        ([("Expires", date(90)), ("Expires", date(900))], Lifetime(0, Basis.EXPIRES)),
        ({"Cache-Control": "max-age=soon"}, Lifetime(0, Basis.MAX_AGE)),
        ({"Cache-Control": "max-age"}, Lifetime(0, Basis.MAX_AGE)),
        ({"Cache-Control": "max-age=-5"}, Lifetime(0, Basis.MAX_AGE)),
        ({"Cache-Control": 'max-age="60"'}, Lifetime(60, Basis.MAX_AGE)),
        ({"Cache-Control": "max-age=600, max-age=60"}, Lifetime(60, Basis.MAX_AGE)),
        ({"Cache-Control": "MAX-AGE=" + "9" * 400}, Lifetime(MAX_LENGTH, Basis.MAX_AGE)),
        ({"Cache-Control": "public"}, None),
        ({"Cache-Control": "must-revalidate"}, None),
        ({"Last-Modified": date(-100_000)}, None),
        ({}, None),
    ],
)
def test_the_origin_gives_a_lifetime(lines: Lines, expected: Lifetime | None) -> None:
    assert explicit_lifetime(CIMultiDict(lines), NOW) == expected


@pytest.mark.parametrize(
    ("status", "lines", "expected"),
    [
        (200, VIDEO, Lifetime(3600, Basis.POLICY)),
        (200, {}, Lifetime(3600, Basis.POLICY)),
        (200, VIDEO | {"Last-Modified": date(-100)}, Lifetime(3600, Basis.POLICY)),
        (200, VIDEO | {"Cache-Control": "must-revalidate"}, Lifetime(3600, Basis.POLICY)),
        (200, VIDEO | {"Cache-Control": "max-age=5"}, Lifetime(5, Basis.MAX_AGE)),
        (200, VIDEO | {"Cache-Control": "no-cache"}, Lifetime(0, Basis.NO_CACHE)),
        (200, VIDEO | {"Cache-Control": "no-cache, max-age=5"}, Lifetime(0, Basis.NO_CACHE)),
        (200, VIDEO | {"Cache-Control": 'no-cache="set-cookie"'}, Lifetime(3600, Basis.POLICY)),
        (200, VIDEO | {"Pragma": "no-cache"}, Lifetime(0, Basis.NO_CACHE)),
        (200, VIDEO | {"Pragma": "no-cache", "Cache-Control": "max-age=5"}, Lifetime(5, Basis.MAX_AGE)),
        (404, VIDEO, Lifetime(0, Basis.NOTHING)),
        (200, HTML, Lifetime(0, Basis.NOTHING)),
        (200, HTML | {"Last-Modified": date(-100)}, Lifetime(0, Basis.NOTHING)),
        (404, HTML | {"Cache-Control": "max-age=5"}, Lifetime(5, Basis.MAX_AGE)),
    ],
)
def test_only_a_media_like_200_without_a_word_on_freshness_gets_the_routes_ttl(
    status: int, lines: Lines, expected: Lifetime
) -> None:
    assert lifetime(status, CIMultiDict(lines), POLICY, NOW) == expected


def test_a_route_may_overrule_the_origin_for_media_alone() -> None:
    policy = CachePolicy(ttl=77, respect_origin=False)
    for directive in ("no-cache", "max-age=5", "s-maxage=0"):
        media, page = VIDEO | {"Cache-Control": directive}, HTML | {"Cache-Control": directive}
        assert lifetime(200, CIMultiDict(media), policy, NOW) == Lifetime(77, Basis.POLICY)
        assert lifetime(200, CIMultiDict(page), policy, NOW).seconds in (0, 5)


@pytest.mark.parametrize(
    ("content_type", "media"),
    [
        ("video/mp4", True),
        ("VIDEO/MP4 ; codecs=x", True),
        ("application/pdf", True),
        ("image/tiff; application=geotiff", True),
        ("application/vnd.pmtiles", True),
        ("text/html", False),
        ("application/json", False),
        ("application/vnd.apple.mpegurl", False),
        ("audio/x-mpegurl", False),
        ("text/event-stream", False),
    ],
)
def test_media_are_what_is_read_by_ranges_but_no_live_playlists(content_type: str, media: bool) -> None:
    assert POLICY.is_media(CIMultiDict({"Content-Type": content_type})) is media


def test_a_playlist_is_media_where_the_route_names_it() -> None:
    policy = CachePolicy(media_types=("audio/x-mpegurl",))
    assert policy.is_media(CIMultiDict({"Content-Type": "audio/x-mpegurl"}))


# --- Staleness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({}, False),
        ({"Cache-Control": "max-age=5"}, False),
        ({"Cache-Control": "must-revalidate"}, True),
        ({"Cache-Control": "proxy-revalidate"}, True),
        ({"Cache-Control": "s-maxage=5"}, True),
        ({"Cache-Control": "no-cache"}, True),
        ({"Cache-Control": 'no-cache="x"'}, False),
        ({"Pragma": "no-cache"}, True),
    ],
)
def test_some_responses_are_never_served_stale(lines: Lines, expected: bool) -> None:
    assert forbids_stale(CIMultiDict(lines)) is expected


def test_no_cache_limited_to_fields_demands_no_validation_unless_it_stands_beside_a_plain_one() -> None:
    assert not demands_validation(CIMultiDict({"Cache-Control": 'no-cache="x, y"'}))
    assert demands_validation(CIMultiDict({"Cache-Control": 'no-cache="x", no-cache'}))


# --- Age ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "took", "later", "expected"),
    [
        ({"Date": date()}, 0, 0, 0),
        ({"Date": date()}, 0, 10, 10),
        ({"Date": date(-7)}, 0, 10, 17),
        ({"Date": date(+7)}, 0, 10, 10),
        ({}, 0, 10, 10),
        ({"Date": "yesterday"}, 0, 10, 10),
        ({"Date": date(), "Age": "30"}, 0, 10, 40),
        ({"Date": date(), "Age": "30"}, 4, 10, 44),
        ({"Date": date(-50), "Age": "30"}, 4, 10, 60),
        ({"Date": date(), "Age": "30, 900"}, 0, 0, 30),
        ([("Date", date()), ("Age", "30"), ("Age", "900")], 0, 0, 30),
        ({"Date": date(), "Age": "-3"}, 0, 0, 0),
        ({"Date": date(), "Age": ""}, 0, 0, 0),
        ({"Date": date()}, 0, -20, 0),
    ],
)
def test_age_is_what_the_fields_say_or_the_clock_shows_and_the_time_since(
    lines: Lines, took: int, later: int, expected: int
) -> None:
    assert current_age(stored(lines, took=took), NOW + later) == expected


@given(
    age=st.integers(0, 2**40),
    skew=st.integers(-(10**6), 10**6),
    took=st.integers(0, 10**4),
    later=st.integers(0, 10**6),
)
def test_age_grows_a_second_a_second_and_never_falls_below_what_the_origin_said(
    age: int, skew: int, took: int, later: int
) -> None:
    response = stored({"Date": date(skew), "Age": str(age)}, took=took)
    assert current_age(response, NOW + later) == current_age(response, NOW) + later
    assert current_age(response, NOW) >= max(age + took, -skew)


# --- Validation -----------------------------------------------------------------------------------


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
    assert origin_conditions(CIMultiDict(lines)) == expected


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
                ("Cache-Control", "max-age=60"),
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
            ("Cache-Control", "max-age=60"),
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
