"""How long a stored response is fresh, and how old it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.fields import MAX_LENGTH, format_http_date
from proxy.semantics.freshness import (
    Basis,
    Grace,
    Lifetime,
    Stored,
    current_age,
    demands_validation,
    explicit_lifetime,
    forbids_stale,
    grace,
    lifetime,
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


# --- Heuristics and grace -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "lines", "expected"),
    [
        (200, {"Last-Modified": date(-100)}, 10),
        (200, {"Last-Modified": date(-105)}, 10),
        (200, {"Last-Modified": date(-86_400)}, 3600),  # never longer than `ttl`
        (200, {"Last-Modified": date(-110), "Date": date(-10)}, 10),
        (200, {"Last-Modified": date(5)}, 0),
        (404, {"Last-Modified": date(-100)}, 10),
        (501, {"Last-Modified": date(-100)}, 10),
        (302, {"Last-Modified": date(-100)}, None),
        (302, {"Last-Modified": date(-100), "Cache-Control": "public"}, 10),
        (200, {"Last-Modified": date(-100), "Cache-Control": "must-revalidate"}, 10),
        (200, {"Last-Modified": "last week"}, None),
        (200, [("Last-Modified", date(-100)), ("Last-Modified", date(-100))], None),
    ],
)
def test_a_last_modified_alone_gives_a_share_of_its_age(
    status: int, lines: Lines, expected: int | None
) -> None:
    fields = CIMultiDict(lines)
    fields["Content-Type"] = "text/html"
    granted = Lifetime(0, Basis.NOTHING) if expected is None else Lifetime(expected, Basis.HEURISTIC)
    assert lifetime(status, fields, POLICY, NOW) == granted


def test_the_share_is_the_routes() -> None:
    fields = CIMultiDict(HTML | {"Last-Modified": date(-100)})
    assert lifetime(200, fields, CachePolicy(heuristic=0.5), NOW).seconds == 50
    assert lifetime(200, fields, CachePolicy(heuristic=0.0), NOW).basis is Basis.NOTHING
    assert lifetime(200, fields, CachePolicy(heuristic=0.5, ttl=7), NOW).seconds == 7
    media = CIMultiDict(VIDEO | {"Last-Modified": date(-100)})
    assert lifetime(200, media, POLICY, NOW) == Lifetime(3600, Basis.POLICY)


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        ("max-age=60", Grace(7, 9)),
        ("max-age=0", Grace(0, 0)),
        ("max-age=60, stale-while-revalidate=1", Grace(1, 9)),
        ("max-age=60, stale-if-error=2", Grace(7, 2)),
        ("max-age=0, stale-if-error=2, stale-while-revalidate=3", Grace(3, 2)),
        ("max-age=60, stale-if-error=2, stale-if-error=1", Grace(7, 1)),
        ("max-age=60, stale-if-error", Grace(7, 0)),
        *((f"max-age=60, stale-if-error=2, {name}", Grace()) for name in ("must-revalidate", "no-cache")),
    ],
)
def test_the_grace_is_the_origins_else_the_routes(directives: str, expected: Grace) -> None:
    policy = CachePolicy(stale_while_revalidate=7, stale_if_error=9)
    fields = CIMultiDict({"Cache-Control": directives})
    granted = lifetime(200, fields, policy, NOW)
    assert grace(fields, policy, granted) == expected
