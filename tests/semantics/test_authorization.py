import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.semantics.authorization import asked_first
from proxy.semantics.cache_status import Forward
from proxy.semantics.freshness import Stored, is_fresh
from proxy.semantics.policy import Authorize, CachePolicy
from proxy.semantics.representation import Representation
from proxy.semantics.request import ClientRequest
from proxy.semantics.reuse import Ask, Decision, Refuse, Reuse, decide
from proxy.semantics.validators import origin_validators

NOW = 1_700_000_000
POLICY = CachePolicy(authorize=Authorize())


def stored(age: int = 0, stale_since: int | None = None, **fields: str) -> Stored:
    named = CIMultiDict((name.replace("_", "-"), value) for name, value in fields.items())
    named.setdefault("Content-Type", "video/mp4")
    return Stored(
        Representation(200, CIMultiDictProxy(named), origin_validators(named, None), 10),
        request_time=NOW - age,
        response_time=NOW - age,
        stale_since=stale_since,
    )


def request(**fields: str) -> ClientRequest:
    named = CIMultiDict((name.replace("_", "-"), value) for name, value in fields.items())
    return ClientRequest("GET", "/x", "/x", None, "http", "h", named, "127.0.0.1", "127.0.0.1")


def decided(wanted: ClientRequest, *candidates: Stored, granted: bool) -> Decision:
    return asked_first(decide(wanted, candidates, POLICY, NOW), wanted, lambda _: granted)


FRESH = stored(ETag='"1"')
STALE = stored(age=5000, ETag='"1"')
STRICT = stored(age=5000, ETag='"1"', Cache_Control="max-age=60, must-revalidate")


@pytest.mark.parametrize("wishes", [{}, {"Cookie": "a=1"}, {"Authorization": "Bearer x"}])
def test_what_is_fresh_is_used_after_a_yes_only(wishes: dict[str, str]) -> None:
    assert isinstance(decided(request(**wishes), FRESH, granted=True), Reuse)
    match decided(request(**wishes), FRESH, granted=False):
        case Ask(Forward.MISS, candidates, conditions, None, False):
            assert candidates == (FRESH,)
            assert conditions == {"If-None-Match": '"1"'}
        case other:
            pytest.fail(f"{other}")


@pytest.mark.parametrize("candidates", [(), (FRESH,), (STALE,), (STRICT,)])
def test_only_if_cached_tells_nothing(candidates: tuple[Stored, ...]) -> None:
    assert decided(request(Cache_Control="only-if-cached"), *candidates, granted=False) == Refuse()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (request(), Forward.MISS),
        (request(Cache_Control="no-cache"), Forward.MISS),
        (request(Cache_Control="max-stale"), Forward.MISS),
        (request(Cache_Control="max-age=0"), Forward.MISS),
        (request(Cache_Control="no-store"), Forward.REQUEST),
    ],
)
@pytest.mark.parametrize("candidates", [(), (FRESH,), (STALE,), (STRICT,)])
def test_why_the_origin_is_asked_says_nothing_of_what_is_stored(
    wanted: ClientRequest, reason: Forward, candidates: tuple[Stored, ...]
) -> None:
    decision = decided(wanted, *candidates, granted=False)
    assert isinstance(decision, Ask)
    assert decision.reason is reason
    assert decision.fallback is None
    assert not decision.strict


def test_a_remembered_yes_lets_the_stale_stand_in() -> None:
    decision = decided(request(), STALE, granted=True)
    assert isinstance(decision, Ask)
    assert decision.fallback is not None
    decision = decided(request(), STRICT, granted=True)
    assert isinstance(decision, Ask)
    assert (decision.fallback, decision.strict) == (None, True)


def test_other_variants_are_not_offered() -> None:
    other = stored(ETag='"de"', Vary="Accept-Language")
    other = Stored(other.representation, NOW, NOW, vary=(("accept-language", "de"),))
    assert decided(request(Accept_Language="en"), other, granted=True) == Ask(Forward.MISS)


@pytest.mark.parametrize(
    ("held", "fresh"), [(FRESH, True), (STALE, False), (stored(stale_since=NOW), False), (stored(3599), True)]
)
def test_is_fresh(held: Stored, fresh: bool) -> None:
    assert is_fresh(held, POLICY, NOW) is fresh
