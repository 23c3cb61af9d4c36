"""The CORS protocol's fields, as pure functions."""

import pytest
from multidict import CIMultiDict

from proxy.semantics.cors import Cors, add_cors, is_preflight, preflight_fields
from tests.semantics.exchanges import request

SITE = "https://a.example"
ANY, SOME = Cors(frozenset({"*"}), 60), Cors(frozenset({SITE}), 60)


@pytest.mark.parametrize(
    ("cors", "origin", "allowed"),
    [
        (ANY, SITE, "*"),
        (ANY, None, "*"),
        (SOME, SITE, SITE),
        (SOME, None, None),
        (SOME, "null", None),
        (SOME, "https://a.example.evil", None),
        (SOME, "http://a.example", None),
        (SOME, "https://a.example:443", None),
    ],
)
def test_who_may_read(cors: Cors, origin: str | None, allowed: str | None) -> None:
    asked = request({"Origin": origin} if origin else {})
    assert cors.allowed(asked) == allowed


@pytest.mark.parametrize(
    ("method", "fields", "preflight"),
    [
        ("OPTIONS", {"Origin": SITE, "Access-Control-Request-Method": "GET"}, True),
        ("OPTIONS", {"Origin": SITE}, False),
        ("OPTIONS", {"Access-Control-Request-Method": "GET"}, False),
        ("GET", {"Origin": SITE, "Access-Control-Request-Method": "GET"}, False),
    ],
)
def test_what_a_preflight_is(method: str, fields: dict[str, str], preflight: bool) -> None:
    assert is_preflight(request(fields, method=method)) == preflight


def test_a_refused_preflight_grants_nothing() -> None:
    assert preflight_fields(SOME, request({"Origin": "null"}, method="OPTIONS")) == {"Vary": "Origin"}


@pytest.mark.parametrize(
    ("cors", "before", "after"),
    [
        (ANY, None, None),
        (ANY, "Accept", "Accept"),
        (SOME, None, "Origin"),
        (SOME, "Accept", "Accept, Origin"),
        (SOME, "accept,ORIGIN", "accept,ORIGIN"),
        (SOME, "*", "*"),
    ],
)
def test_vary_names_origin_where_the_answer_depends_on_it(
    cors: Cors, before: str | None, after: str | None
) -> None:
    fields = CIMultiDict({"Vary": before} if before else {})
    add_cors(fields, cors, request({"Origin": SITE}))
    assert fields.get("Vary") == after
