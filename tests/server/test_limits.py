"""Who gets a place, and how many there are."""

from ipaddress import ip_network

import pytest

from proxy.semantics.forward import UNIX
from proxy.server.limits import Gate, Limit, Place, affordable
from proxy.workers.seat import Crowd


def gate(
    most: int, per_client: int, *, here: int | None = None, crowd: Crowd | None = None
) -> tuple[Gate, list[tuple[Limit, str]]]:
    told: list[tuple[Limit, str]] = []
    made = Gate(
        most,
        here=most if here is None else here,
        crowd=crowd,
        per_client=per_client,
        trusted=[ip_network("10.0.0.0/8")],
        on_refused=lambda *refusal: told.append(refusal),
    )
    return made, told


def enter(gate: Gate, peer: str) -> Place:
    place = gate.enter(peer)
    assert isinstance(place, Place)
    return place


def test_a_place_that_is_left_is_free() -> None:
    made, told = gate(2, 2)
    first, _ = enter(made, "192.0.2.1"), enter(made, "192.0.2.2")
    assert made.enter("192.0.2.3") is Limit.CONNECTIONS
    first.leave()
    first.leave()
    assert made.open == 1
    enter(made, "192.0.2.3")
    assert (made.open, told) == (2, [(Limit.CONNECTIONS, "192.0.2.3")])


def test_one_client_has_fewer() -> None:
    made, _ = gate(10, 2)
    places = [enter(made, "192.0.2.1") for _ in range(2)]
    assert made.enter("192.0.2.1") is Limit.PER_CLIENT
    enter(made, "192.0.2.2")
    places[0].leave()
    enter(made, "192.0.2.1")
    assert made.refused == {Limit.CONNECTIONS: 0, Limit.PER_CLIENT: 1, Limit.DESCRIPTORS: 0}


def test_of_ipv6_a_client_has_64_bits() -> None:
    made, told = gate(10, 1)
    enter(made, "2001:db8::1")
    assert made.enter("2001:db8::ffff:1") is Limit.PER_CLIENT
    enter(made, "2001:db8:0:1::1")
    assert told == [(Limit.PER_CLIENT, "2001:db8::/64")]


@pytest.mark.parametrize("peer", [UNIX, "10.1.2.3"])
def test_who_speaks_for_many_is_not_one_client(peer: str) -> None:
    made, _ = gate(3, 1)
    places = [enter(made, peer) for _ in range(3)]
    assert made.enter(peer) is Limit.CONNECTIONS
    for place in places:
        place.leave()
    assert made.open == 0


def test_of_several_workers_each_has_some_and_all_have_more() -> None:
    counts = memoryview(bytearray(16)).cast("q")
    (ours, _), (theirs, _) = (gate(5, 9, here=3, crowd=Crowd(counts, number)) for number in range(2))
    places = [enter(ours, "192.0.2.1") for _ in range(3)]
    assert ours.leaves_it()
    assert not theirs.leaves_it()
    assert ours.enter("192.0.2.1") is Limit.CONNECTIONS, "no more in this process"
    for _ in range(2):
        enter(theirs, "192.0.2.2")
    assert not ours.leaves_it(), "they would not have it either"
    assert theirs.enter("192.0.2.2") is Limit.CONNECTIONS, "no more in all"
    places[0].leave()
    enter(theirs, "192.0.2.2")
    assert ours.enter("192.0.2.1") is Limit.CONNECTIONS


def test_where_descriptors_are_short_nobody_enters() -> None:
    made, _ = gate(3, 3)
    assert made.enter("192.0.2.1", short=True) is Limit.DESCRIPTORS
    assert made.open == 0


def test_nothing_is_kept_of_clients_that_have_left() -> None:
    made, _ = gate(3, 3)
    for number in range(100):
        enter(made, f"192.0.2.{number}").leave()
    assert not made._clients


@pytest.mark.parametrize(
    ("wanted", "descriptors", "others", "workers", "can_be"),
    [
        (4096, 1 << 20, 400, 1, 4096),
        (4096, 4096, 400, 1, 1848),
        (10, 4096, 400, 1, 10),
        (4096, 256, 400, 1, 64),  # others have half of it at most
        (4096, 2, 400, 1, 1),
        (4096, 4096, 400, 2, 1232),  # the keeper has open what the clients of both are sent
        (4096, 4096, 400, 3, 924),
    ],
)
def test_how_many_there_can_be(wanted: int, descriptors: int, others: int, workers: int, can_be: int) -> None:
    assert affordable(wanted, descriptors, others, workers) == can_be
