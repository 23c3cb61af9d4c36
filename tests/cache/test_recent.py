"""A set that forgets."""

from proxy.cache.recent import Recent


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_member_is_forgotten_after_its_time() -> None:
    clock = Clock()
    recent = Recent(60, clock=clock)
    recent.add(b"a")
    clock.now = 59.9
    assert b"a" in recent
    clock.now = 60
    assert b"a" not in recent


def test_adding_again_begins_the_time_anew() -> None:
    clock = Clock()
    recent = Recent(60, clock=clock)
    recent.add(b"a")
    clock.now = 30
    recent.add(b"a")
    clock.now = 80
    assert b"a" in recent


def test_the_oldest_goes_when_there_are_too_many() -> None:
    recent = Recent(60, capacity=2, clock=Clock())
    for key in (b"a", b"b", b"a", b"c"):
        recent.add(key)
    assert [key in recent for key in (b"a", b"b", b"c")] == [True, False, True]


def test_a_member_can_be_discarded_whether_there_or_not() -> None:
    recent = Recent(60, clock=Clock())
    recent.add(b"a")
    recent.discard(b"a")
    recent.discard(b"b")
    assert b"a" not in recent
