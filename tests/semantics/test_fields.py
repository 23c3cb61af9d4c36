"""Lexing of field values."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.semantics.fields import (
    HOP_BY_HOP,
    MAX_LENGTH,
    Directives,
    Fields,
    end_to_end,
    format_http_date,
    joined,
    list_members,
    only,
    parse_digits,
    parse_directives,
    parse_http_date,
)

EXAMPLE = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the RFC's example


# --- Lines ----------------------------------------------------------------------------------------


@pytest.fixture
def three_lines() -> Fields:
    return CIMultiDict([("Vary", "Accept"), ("vary", "Cookie, Host"), ("ETag", '"a"')])


def test_joined_takes_all_lines_in_order(three_lines: Fields) -> None:
    assert joined(three_lines, "VARY") == "Accept, Cookie, Host"
    assert joined(three_lines, "etag") == '"a"'
    assert joined(three_lines, "Age") is None


def test_an_empty_line_is_present() -> None:
    assert joined(CIMultiDict({"Vary": ""}), "Vary") == ""
    assert only(CIMultiDict({"Vary": ""}), "Vary") == ""


def test_only_refuses_several_lines(three_lines: Fields) -> None:
    assert only(three_lines, "etag") == '"a"'
    assert only(three_lines, "vary") is None
    assert only(three_lines, "Age") is None


def test_a_proxy_of_a_multidict_will_do(three_lines: Fields) -> None:
    proxy = CIMultiDictProxy(CIMultiDict(three_lines))
    assert joined(proxy, "vary") == "Accept, Cookie, Host"
    assert only(proxy, "etag") == '"a"'
    assert list(end_to_end(proxy).items()) == list(three_lines.items())


# --- Lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "members"),
    [
        ("", []),
        (" \t ", []),
        (",", []),
        (", ,\t,,", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("  a\t,\tb  ", ["a", "b"]),
        (",a,,b,", ["a", "b"]),
        ("a b, c", ["a b", "c"]),
        ('x="1, 2", y', ['x="1, 2"', "y"]),
        ('","', ['","']),
        (r'x="\"", y', [r'x="\""', "y"]),
        (r'x="\\", y', [r'x="\\"', "y"]),
        (r'x="a\",b", y', [r'x="a\",b"', "y"]),
        ('a"b, c"d, e', ['a"b, c"d', "e"]),
        ('"a""b,c",d', ['"a""b,c"', "d"]),
        ('x="open, no-store', ['x="open', "no-store"]),
        ('x="1, 2", y="open, no-store', ['x="1', '2"', 'y="open', "no-store"]),
        ('x="ends in a backslash\\', ['x="ends in a backslash\\']),
        ("\u00a0a\u00a0,\u2003b", ["\u00a0a\u00a0", "\u2003b"]),  # other spaces are not OWS
        ("a\n,b", ["a\n", "b"]),
    ],
)
def test_list_members(value: str, members: list[str]) -> None:
    assert list_members(value) == members


@given(st.lists(st.from_regex(r'[a-z]+(="([^"\\]|\\.)*")?', fullmatch=True)))
def test_list_members_takes_apart_what_was_joined(members: list[str]) -> None:
    assert list_members(" , ".join(members)) == members


def growth(function: Callable[[str], object], make: Callable[[int], str], small: int = 4_000) -> float:
    """How many times longer a 16 times longer input takes; 16 is linear, 256 quadratic."""

    def least(text: str) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            function(text)
            times.append(time.process_time() - started)
        return min(times)

    return least(make(16 * small)) / max(least(make(small)), 1e-6)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: "," * n, id="commas"),
        pytest.param(lambda n: "a," * n, id="members"),
        pytest.param(lambda n: '"' + "a" * n, id="open quote"),
        pytest.param(lambda n: '"' + '\\"' * n, id="open quote, pairs"),
        pytest.param(lambda n: '"a",' * n + '"', id="quotes, then an open one"),
        pytest.param(lambda n: '"' * (2 * n + 1), id="quotes"),
        pytest.param(lambda n: '"\\' * n, id="quote and backslash"),
        pytest.param(lambda n: " \t" * n + "a", id="spaces"),
    ],
)
def test_lists_and_directives_take_linear_time(make: Callable[[int], str]) -> None:
    def read(text: str) -> object:
        return list_members(text), parse_directives(CIMultiDict({"Cache-Control": text}))

    assert growth(read, make) < 100


# --- Digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("7", 7),
        ("000", 0),
        ("0009", 9),
        ("9223372036854775806", MAX_LENGTH - 1),
        ("9223372036854775807", MAX_LENGTH),
        ("9223372036854775808", MAX_LENGTH),
        ("9999999999999999999", MAX_LENGTH),
        ("18446744073709551615", MAX_LENGTH),
        ("18446744073709551616", MAX_LENGTH),
        ("1" + "0" * 100_000, MAX_LENGTH),
        ("0" * 100_000 + "5", 5),
    ],
)
def test_digits(text: str, number: int) -> None:
    assert parse_digits(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "", "+5", "-5", "-0", "1_0", " 5", "5 ", "\t5", "5\n", "5\r", "5.0", "5e3", "0x10", "5,", "1 0",
        "\u0665", "\u096b", "\uff15", "\u00b2", "\u2164", "5\u0665", "\U0001d7d3", "five", "5\x00", "\udcb5",
    ],
)  # fmt: skip
def test_what_is_no_numeral(text: str) -> None:
    assert parse_digits(text) is None


@given(st.integers(min_value=0, max_value=2**80))
def test_digits_saturate(number: int) -> None:
    assert parse_digits(str(number)) == min(number, MAX_LENGTH)


@given(st.text())
def test_digits_of_any_text(text: str) -> None:
    expected = bool(text) and all(character in "0123456789" for character in text)
    assert (parse_digits(text) is not None) == expected


# --- Dates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
        ("Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE),
        ("Sun Nov  6 08:49:37 1994", EXAMPLE),
        ("Sun Nov 06 08:49:37 1994", EXAMPLE),
        ("Wed Nov 16 08:49:37 1994", EXAMPLE + 10 * 86400),
        (" Sun, 06 Nov 1994 08:49:37 GMT\t", EXAMPLE),
        ("sun, 06 NOV 1994 08:49:37 gmt", EXAMPLE),
        ("Mon, 06 Nov 1994 08:49:37 GMT", EXAMPLE),  # not a Monday
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("Tue, 29 Feb 2000 00:00:00 GMT", 951782400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),  # a leap second
        ("Thursday, 01-Jan-70 00:00:00 GMT", 0),
        ("Tuesday, 31-Dec-69 23:59:59 GMT", 3155759999),
        ("Friday, 01-Jan-27 00:00:00 GMT", 1798761600),
    ],
)
def test_dates(text: str, seconds: int) -> None:
    assert parse_http_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "784111777",
        "now",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 GMT; length=17",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Xxx, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Xxx 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Tue, 29 Feb 1900 00:00:00 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37.5 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "\u017fun, 06 Nov 1994 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        '"Sun, 06 Nov 1994 08:49:37 GMT"',
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert parse_http_date(text) is None


def test_dates_are_written_as_imf_fixdate() -> None:
    assert format_http_date(EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert format_http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


@given(st.integers(min_value=0, max_value=253402300799))
def test_dates_there_and_back(seconds: int) -> None:
    assert parse_http_date(format_http_date(seconds)) == seconds
    moment = datetime.fromtimestamp(seconds, UTC)
    assert parse_http_date(moment.strftime("%a %b %e %H:%M:%S ") + f"{moment.year:04}") == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"))
def test_dates_of_any_text(text: str) -> None:
    assert parse_http_date(text) is None or "GMT" in text.upper() or len(text) > 20


# --- Directives -----------------------------------------------------------------------------------


def directives(*lines: str) -> Directives:
    return parse_directives(CIMultiDict([("Cache-Control", line) for line in lines]))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], {}),
        ([""], {}),
        ([" , ,"], {}),
        (["no-store"], {"no-store": None}),
        (["No-Store, PRIVATE"], {"no-store": None, "private": None}),
        (["max-age=60"], {"max-age": "60"}),
        (['max-age="60"'], {"max-age": "60"}),
        (["max-age="], {"max-age": ""}),
        (["max-age= 60"], {"max-age": " 60"}),
        (["max-age =60"], {"max-age": ""}),
        (["max-age=60", "public"], {"max-age": "60", "public": None}),
        (["max-age=60; private"], {"max-age": "60; private"}),
        ([r'ext="a\"b\\c"'], {"ext": r"a\"b\c".replace(r"\"", '"')}),
        (['ext="'], {"ext": '"'}),
        (['ext=""'], {"ext": ""}),
        (["a=b=c"], {"a": "b=c"}),
        (["community=UCI, max-age=1"], {"community": "UCI", "max-age": "1"}),
        (['no-cache="set-cookie, x", s-maxage=5'], {"no-cache": "set-cookie, x", "s-maxage": "5"}),
        (['private="x, no-store'], {"private": '"x', "no-store": None}),
        (['x="a', 'b"', "no-store"], {"x": "a, b", "no-store": None}),
    ],
)
def test_directives(lines: list[str], expected: dict[str, str | None]) -> None:
    assert dict(directives(*lines)) == expected


def test_directives_of_another_field() -> None:
    fields = CIMultiDict({"CDN-Cache-Control": "max-age=7", "Cache-Control": "no-store"})
    assert dict(parse_directives(fields, "CDN-Cache-Control")) == {"max-age": "7"}
    assert not parse_directives(fields, "Surrogate-Control")


def test_duplicates_keep_all_arguments_and_show_the_first() -> None:
    read = directives("max-age=60, max-age=5", "max-age")
    assert read["max-age"] == "60"
    assert read.arguments("max-age") == ("60", "5", None)
    assert read.arguments("public") == ()
    assert len(read) == 1
    assert "public" not in read


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("public", None),
        ("max-age=0", 0),
        ("max-age=60", 60),
        ('max-age="60"', 60),
        ("MAX-AGE=60", 60),
        ("max-age=0060", 60),
        ("max-age=60, max-age=5", 5),
        ("max-age=5, max-age=60", 5),
        ("max-age=60, max-age=x", 0),
        ("max-age", 0),
        ("max-age=", 0),
        ("max-age=-1", 0),
        ("max-age=+60", 0),
        ("max-age=1_0", 0),
        ("max-age=6.5", 0),
        ("max-age=60s", 0),
        ("max-age= 60", 0),
        ("max-age=60; public", 0),
        ("max-age=\u0666\u0660", 0),
        ("max-age='60'", 0),
        ("max-age=2147483648", 2**31),
        ("max-age=99999999999999999999999", MAX_LENGTH),
    ],
)
def test_seconds_are_read_so_that_doubt_means_stale(line: str, seconds: int | None) -> None:
    assert directives(line).seconds("max-age") == seconds


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        (["no-cache"], ()),
        (['no-cache="Set-Cookie"'], ("set-cookie",)),
        (['no-cache="A, b ,,C"'], ("a", "b", "c")),
        (["no-cache=Set-Cookie"], ("set-cookie",)),
        (['no-cache="a"', 'no-cache="b, a"'], ("a", "b")),
        (['no-cache="a", no-cache'], ()),
        (["no-cache", 'no-cache="a"'], ()),
        (['no-cache=""'], ()),
        (['no-cache=","'], ()),
        (['no-cache="a", no-cache=""'], ()),
    ],
)
def test_field_names_limit_only_if_every_occurrence_is_limited(
    lines: list[str], names: tuple[str, ...]
) -> None:
    assert directives(*lines).names("no-cache") == names


@given(st.text())
def test_any_text_is_some_directives(text: str) -> None:
    read = directives(text)
    for name in read:
        assert name == name.lower()
        assert read.seconds(name) is not None
        read.names(name)


# --- Hop by hop -----------------------------------------------------------------------------------


def test_end_to_end_drops_what_means_this_connection() -> None:
    fields = CIMultiDict([(name.title(), "x") for name in sorted(HOP_BY_HOP)] + [("ETag", '"a"')])
    assert list(end_to_end(fields).items()) == [("ETag", '"a"')]


def test_end_to_end_drops_what_connection_nominates() -> None:
    fields = CIMultiDict(
        [
            ("Connection", "close, X-Hop ,, x-other"),
            ("X-HOP", "1"),
            ("Connection", "X-Third"),
            ("X-Other", "2"),
            ("x-third", "3"),
            ("X-Stays", "4"),
            ("Set-Cookie", "a"),
            ("Set-Cookie", "b"),
        ]
    )
    kept = end_to_end(fields)
    assert list(kept.items()) == [("X-Stays", "4"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    assert "X-Hop" in fields
