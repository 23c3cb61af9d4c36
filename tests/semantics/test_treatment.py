"""What is done with a request."""

import pytest
from multidict import CIMultiDict

from proxy.semantics.request import ClientRequest
from proxy.semantics.treatment import Treatment, hops_left, treatment

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}
PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}


def request(
    method: str, fields: dict[str, str] | None = None, *, target: str = "/a", has_body: bool = False
) -> ClientRequest:
    return ClientRequest(
        method=method,
        target=target,
        path=target,
        query=None,
        scheme="http",
        host="a",
        fields=CIMultiDict(fields or {}),
        peer="192.0.2.1",
        client="192.0.2.1",
        has_body=has_body,
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request("GET"), Treatment.ADAPT),
        (request("HEAD"), Treatment.ADAPT),
        (request("get"), Treatment.METHOD),
        (request("POST", has_body=True), Treatment.METHOD),
        (request("GET", has_body=True), Treatment.BODY),
        (request("GET", UPGRADE), Treatment.UPGRADE),
        (request("GET", UPGRADE | {"Upgrade": "h2c"}), Treatment.ADAPT),
        (request("OPTIONS", target="*"), Treatment.METHOD),
        (request("GET", target="*"), Treatment.SERVER_WIDE),
        (request("OPTIONS", PREFLIGHT), Treatment.PREFLIGHT),
        (request("OPTIONS", {"Max-Forwards": "0"}), Treatment.LAST_HOP),
        (request("TRACE", {"Max-Forwards": "0"}), Treatment.LAST_HOP),
        (request("TRACE", {"Max-Forwards": "1"}), Treatment.METHOD),
        (request("GET", {"Max-Forwards": "0"}), Treatment.ADAPT),
    ],
)
def test_on_a_route_that_adapts(asked: ClientRequest, expected: Treatment) -> None:
    assert treatment(asked, adapts=True, cors=True) is expected


def test_on_other_routes() -> None:
    assert treatment(request("GET"), adapts=False, cors=False) is Treatment.PASSTHROUGH
    assert treatment(request("POST"), adapts=False, cors=False) is Treatment.PASSTHROUGH
    assert treatment(request("OPTIONS", PREFLIGHT), adapts=False, cors=True) is Treatment.PREFLIGHT
    assert treatment(request("OPTIONS", PREFLIGHT), adapts=True, cors=False) is Treatment.METHOD


@pytest.mark.parametrize(("value", "left"), [("0", 0), ("7", 7), ("-1", None), ("1, 2", None), ("", None)])
def test_hops_left(value: str, left: int | None) -> None:
    assert hops_left(request("OPTIONS", {"Max-Forwards": value})) == left
    assert hops_left(request("PUT", {"Max-Forwards": value})) is None
