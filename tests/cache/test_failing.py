"""How long an origin is spared what it has just failed at."""

from proxy.cache.failing import SPARED_AT_MOST, SPARED_FOR, Failing


class Spared:
    """For how many seconds after each break."""

    def __init__(self) -> None:
        self.failing = Failing()
        self._now = 0.0
        self.failing._recent._clock = lambda: self._now

    def after(self, reached: int, *, asked_again: bool = True) -> float:
        self.failing.note_broken(b"key", reached, asked_again=asked_again)
        until = self.failing._recent._until.get(b"key", 0.0)
        seconds, self._now = until - self._now, max(until, self._now)
        return max(seconds, 0.0)


def test_who_comes_no_further_is_spared_longer_each_time() -> None:
    spared = Spared()
    assert [spared.after(100) for _ in range(4)] == [SPARED_FOR * factor for factor in (1, 2, 4, 8)]
    assert max(spared.after(100) for _ in range(2000)) == SPARED_AT_MOST


def test_who_gets_further_or_has_given_all_begins_anew() -> None:
    spared = Spared()
    assert [spared.after(reached) for reached in (100, 100, 200, 300)] == [5.0, 10.0, 5.0, 5.0]
    spared.after(300)
    spared.failing.note_whole(b"key")
    assert spared.after(300) == SPARED_FOR


def test_one_break_may_be_due_to_the_request() -> None:
    spared = Spared()
    assert spared.after(100, asked_again=False) == 0
    assert spared.after(100, asked_again=False) > 0
