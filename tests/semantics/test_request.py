"""Who a client is, as far as limits are concerned."""

import pytest

from proxy.semantics.request import network


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("::1", "::/64"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_network(client: str, expected: str) -> None:
    assert network(client) == expected
    assert network(expected) == expected
