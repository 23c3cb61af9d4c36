"""What a client's request is answered with."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.cache_status import Forward
from proxy.semantics.freshness import Stored
from proxy.semantics.policy import CachePolicy
from proxy.semantics.reuse import Ask, Decision, Refuse, Reuse, decide, matches, usable_shared
from proxy.semantics.storing import NoStore, Pass, judge
from tests.semantics.answers import BASIC, COOKIE, HTML, NOW, POLICY, TAG, VIDEO, cc, date, fetched, page
from tests.semantics.exchanges import Lines, request

# --- Decisions: fresh, stale, missing -------------------------------------------------------------


def outcome(
    lines: dict[str, str], *, later: int = 0, asked: Lines | None = None, policy: CachePolicy = POLICY
) -> Decision:
    """The decision on a request with `asked`, `later` seconds after a plain request got these lines."""
    return decide(request(asked), [fetched(VIDEO | lines, policy=policy)], policy, NOW + later)


def reason(decision: Decision) -> Forward | None:
    return decision.reason if isinstance(decision, Ask) else None


def test_without_candidates_the_uri_is_missing() -> None:
    assert decide(request(), [], POLICY, NOW) == Ask(Forward.URI_MISS)


@pytest.mark.parametrize(("back", "reused"), [(2, True), (3, False), (1000, False)])
def test_a_response_from_later_than_now_is_of_unknown_age(back: int, reused: bool) -> None:
    """The clock was set back."""
    decision = decide(request(), [fetched(VIDEO | cc("max-age=60"))], POLICY, NOW - back)
    assert isinstance(decision, Reuse) == reused
    assert reason(decision) is (None if reused else Forward.STALE)


def test_a_fresh_response_is_reused_until_its_last_second() -> None:
    stored = fetched(VIDEO | cc("max-age=60"))
    assert decide(request(), [stored], POLICY, NOW) == Reuse(stored, age=0, ttl=60)
    assert decide(request(), [stored], POLICY, NOW + 59) == Reuse(stored, age=59, ttl=1)
    assert reason(decide(request(), [stored], POLICY, NOW + 60)) is Forward.STALE


def test_head_and_ranges_and_conditions_are_decided_as_a_plain_get() -> None:
    stored = fetched(VIDEO)
    conditional = request({"Range": "bytes=0-1", "If-None-Match": '"y"', "If-Range": '"z"'})
    for asked in (request(method="HEAD"), conditional):
        assert isinstance(decide(asked, [stored], POLICY, NOW), Reuse)


def test_a_stale_response_is_validated_by_the_origins_tag_and_date_and_never_by_ours() -> None:
    weak = {"ETag": 'W/"x"', "Last-Modified": date(-9)}
    stored = fetched(VIDEO | weak)
    decision = decide(request(), [stored], POLICY, NOW + 3600)
    assert isinstance(decision, Ask)
    assert decision.candidates == (stored,)
    assert decision.reason is Forward.STALE
    assert decision.conditions == {"If-None-Match": 'W/"x"', "If-Modified-Since": date(-9)}


def test_one_without_validators_is_fetched_again_to_be_compared() -> None:
    stored = fetched(VIDEO)
    decision = decide(request(), [stored], POLICY, NOW + 3600)
    assert isinstance(decision, Ask)
    assert decision.candidates == (stored,)
    assert not decision.conditions


@pytest.mark.parametrize(
    "directives", ["no-cache", "max-age=0", "no-cache, max-age=600", "s-maxage=0, max-age=9"]
)
def test_some_responses_are_validated_before_each_reuse(directives: str) -> None:
    assert reason(outcome(TAG | cc(directives))) is Forward.STALE
    assert judge(request(), 200, CIMultiDict(VIDEO | cc(directives)), POLICY, NOW) == Pass(
        NoStore.NO_VALIDATOR
    )


@pytest.mark.parametrize(
    ("lines", "later", "asked", "expected"),
    [
        (cc("max-age=60"), 0, cc("no-cache"), Forward.REQUEST),
        (cc("max-age=60"), 0, {"Pragma": "no-cache"}, Forward.REQUEST),
        (cc("max-age=60"), 0, {"Pragma": "no-cache"} | cc("max-age=5"), None),
        (cc("max-age=60"), 0, cc("max-age=0"), Forward.REQUEST),
        (cc("max-age=60"), 4, cc("max-age=5"), None),
        (cc("max-age=60"), 5, cc("max-age=5"), Forward.REQUEST),
        (cc("max-age=60"), 0, cc("max-age=many"), Forward.REQUEST),
        (cc("max-age=60"), 60, cc("max-age=900"), Forward.STALE),
        (cc("max-age=60"), 50, cc("min-fresh=10"), None),
        (cc("max-age=60"), 51, cc("min-fresh=10"), Forward.REQUEST),
        (cc("max-age=60"), 70, cc("max-stale=10"), None),
        (cc("max-age=60"), 71, cc("max-stale=10"), Forward.STALE),
        (cc("max-age=60"), 10**9, cc("max-stale"), None),
        (cc("max-age=60"), 70, cc("max-stale=x"), Forward.STALE),
        (cc("max-age=60, must-revalidate"), 70, cc("max-stale"), Forward.STALE),
        (cc("max-age=60, proxy-revalidate"), 70, cc("max-stale"), Forward.STALE),
        (cc("s-maxage=60"), 70, cc("max-stale"), Forward.STALE),
        (cc("no-cache") | TAG, 0, cc("max-stale"), Forward.STALE),
        (cc("max-age=60"), 0, cc("no-store"), Forward.REQUEST),
        (cc("max-age=60"), 0, {"Cookie": "session=1"}, None),
        (cc(""), 0, {"Cookie": "session=1"}, Forward.MISS),
        (cc("max-age=60"), 0, BASIC, Forward.MISS),
        (cc("max-age=60"), 0, cc("only-if-cached"), None),
    ],
)
def test_request_directives_narrow_or_widen_what_is_acceptable(
    lines: dict[str, str], later: int, asked: Lines, expected: Forward | None
) -> None:
    decision = outcome(lines, later=later, asked=asked)
    assert reason(decision) is expected
    assert isinstance(decision, Reuse) is (expected is None)


def test_a_stale_response_that_is_reused_all_the_same_has_a_negative_ttl() -> None:
    decision = outcome(cc("max-age=60"), later=70, asked=cc("max-stale=10"))
    assert isinstance(decision, Reuse)
    assert (decision.age, decision.ttl) == (70, -10)


@pytest.mark.parametrize("also", ["", ", no-cache", ", no-store", ", max-age=0"])
def test_only_if_cached_never_reaches_the_origin(also: str) -> None:
    asked = request(cc("only-if-cached" + also))
    assert decide(asked, [], POLICY, NOW) == Refuse()
    stale = fetched(VIDEO | TAG)
    assert decide(asked, [stale], POLICY, NOW + 3600) == Refuse()


def test_a_disrespected_origin_has_its_media_reused_for_the_routes_ttl() -> None:
    policy = CachePolicy(respect_origin=False, ttl=60)
    assert isinstance(outcome(cc("no-cache"), later=59, policy=policy), Reuse)
    assert reason(outcome(cc("no-cache"), later=60, policy=policy)) is Forward.STALE


@pytest.mark.parametrize("skew", [-7200, -3600, 7200])
def test_the_routes_ttl_counts_from_receipt_whatever_the_origins_clock_says(skew: int) -> None:
    lines = {"Date": date(skew)}
    decision = outcome(lines, later=10)
    assert isinstance(decision, Reuse)
    assert (decision.age, decision.ttl) == (10, 3590)
    assert reason(outcome(lines, later=3600)) is Forward.STALE
    assert reason(outcome({"Age": "3595"}, later=5)) is Forward.STALE, "other caches' time counts"
    assert reason(outcome({"Date": date(-60)} | cc("max-age=60"))) is Forward.STALE


# --- Decisions: which candidate -------------------------------------------------------------------


def test_the_variant_that_the_request_selects_is_chosen() -> None:
    lines = VIDEO | {"Vary": "Accept-Language"}
    german = fetched(lines, asked=request({"Accept-Language": "de"}))
    none = fetched(lines, asked=request())
    chosen = decide(request({"Accept-Language": "de"}), [none, german], POLICY, NOW)
    assert isinstance(chosen, Reuse)
    assert chosen.stored is german
    assert decide(request({"Accept-Language": "fr"}), [none, german], POLICY, NOW) == Ask(Forward.VARY_MISS)


def tagged(language: str | None, tag: str, **more: str) -> Stored:
    asked = request({} if language is None else {"Accept-Language": language})
    lines = VIDEO | cc("max-age=60") | {"Vary": "Accept-Language", "ETag": tag}
    return fetched(lines | {name.replace("_", "-"): value for name, value in more.items()}, asked=asked)


def test_the_tags_of_other_variants_are_offered_their_dates_are_not() -> None:
    german, french, none = tagged("de", '"1"', Last_Modified=date(-9)), tagged("fr", '"2"'), tagged(None, "3")
    decision = decide(request({"Accept-Language": "en"}), [german, french, none], POLICY, NOW)
    assert isinstance(decision, Ask)
    assert (decision.reason, decision.candidates) == (Forward.VARY_MISS, (german, french))
    assert decision.conditions == {"If-None-Match": '"1", "2"'}


def test_what_is_stale_is_validated_with_its_own_tag_alone() -> None:
    """Scripts compare the field as a whole, and a 304 without a tag must not be ambiguous."""
    german, french = tagged("de", '"1"', Last_Modified=date(-9)), tagged("fr", '"2"')
    decision = decide(request({"Accept-Language": "de"}), [german, french], POLICY, NOW + 60)
    assert isinstance(decision, Ask)
    assert (decision.reason, decision.candidates) == (Forward.STALE, (german,))
    assert decision.conditions == {"If-None-Match": '"1"', "If-Modified-Since": date(-9)}


@pytest.mark.parametrize("tags", [('W/"1"', 'W/"2"'), ('"1"', '"1"'), ("1", "2")])
def test_tags_that_do_not_tell_variants_apart_are_not_offered(tags: tuple[str, str]) -> None:
    variants = [tagged("de", tags[0]), tagged("fr", tags[1])]
    decision = decide(request({"Accept-Language": "en"}), variants, POLICY, NOW)
    assert decision == Ask(Forward.VARY_MISS)


def test_no_more_than_sixteen_tags_are_offered() -> None:
    variants = [tagged(f"l{number}", f'"{number}"') for number in range(40)]
    decision = decide(request(), variants, POLICY, NOW)
    assert isinstance(decision, Ask)
    assert decision.conditions["If-None-Match"].count(",") == 15


@pytest.mark.parametrize("name", ["Cookie", "Authorization", "X-Api-Key", "X-Tenant"])
def test_the_tags_of_what_others_may_see_are_not_offered(name: str) -> None:
    lines = VIDEO | TAG | cc("public, max-age=60") | {"Vary": name}
    stored = fetched(lines, asked=request({name: "Basic dTpw"}))
    assert decide(request({name: "Basic eDp5"}), [stored], POLICY, NOW) == Ask(Forward.VARY_MISS)


def test_the_tag_of_another_coding_is_not_offered() -> None:
    gzip = page({"Accept-Encoding": "gzip"})
    coded = fetched(HTML | TAG | cc("max-age=60") | {"Content-Encoding": "gzip"}, asked=gzip)
    assert decide(page(), [coded], POLICY, NOW) == Ask(Forward.VARY_MISS)
    plain = fetched(HTML | TAG | cc("max-age=60") | {"Vary": "Accept-Encoding"}, asked=page())
    decision = decide(gzip, [plain], POLICY, NOW)
    assert isinstance(decision, Ask)
    assert decision.conditions == {"If-None-Match": '"x"'}


# --- Decisions: served though stale (RFC 5861) ----------------------------------------------------

QUIET = CachePolicy(stale_if_error=0)


@pytest.mark.parametrize(
    ("lines", "later", "asked", "bearable"),
    [
        (cc("max-age=60, stale-if-error=10"), 60, {}, True),
        (cc("max-age=60, stale-if-error=10"), 69, {}, True),
        (cc("max-age=60, stale-if-error=10"), 70, {}, False),
        (cc("max-age=60, stale-if-error=0"), 60, {}, False),
        (cc("max-age=60, stale-if-error=x"), 60, {}, False),
        (cc("max-age=0, stale-if-error=10") | TAG, 5, {}, True),
        (cc("max-age=60, stale-if-error=10, must-revalidate"), 65, {}, False),
        (cc("max-age=60, stale-if-error=10, proxy-revalidate"), 65, {}, False),
        (cc("s-maxage=60, stale-if-error=10"), 65, {}, False),
        (cc("no-cache, stale-if-error=10") | TAG, 5, {}, False),
        (cc("max-age=60, stale-if-error=10"), 65, cc("no-cache"), False),
        (cc("max-age=60, stale-if-error=10"), 65, cc("max-age=90"), False),
        (cc("max-age=60, stale-if-error=10"), 65, cc("min-fresh=0"), False),
        (cc("max-age=60"), 60, {}, False),
    ],
)
def test_the_origin_says_how_long_a_stale_response_may_stand_in_for_its_errors(
    lines: dict[str, str], later: int, asked: Lines, bearable: bool
) -> None:
    decision = outcome(lines, later=later, asked=asked, policy=QUIET)
    assert isinstance(decision, Ask)
    assert (decision.fallback is not None) is bearable
    if decision.fallback is not None:
        assert (decision.fallback.stored, decision.fallback.age) == (decision.candidates[0], later)


def test_the_route_says_it_where_the_origin_does_not() -> None:
    policy = CachePolicy(stale_if_error=100)
    assert isinstance(decision := outcome(cc("max-age=60"), later=159, policy=policy), Ask)
    assert decision.fallback is not None
    assert isinstance(decision := outcome(cc("max-age=60"), later=160, policy=policy), Ask)
    assert decision.fallback is None
    assert isinstance(decision := outcome(cc("max-age=0") | TAG, policy=policy), Ask)
    assert decision.fallback is None, "what is stale from the beginning"


@pytest.mark.parametrize(
    ("directives", "strict"),
    [("max-age=1", False), ("max-age=1, must-revalidate", True), ("no-cache", True), ("s-maxage=1", True)],
)
def test_it_is_known_whether_the_origins_word_is_needed(directives: str, strict: bool) -> None:
    decision = outcome(TAG | cc(directives), later=9)
    assert isinstance(decision, Ask)
    assert decision.strict is strict


@pytest.mark.parametrize(
    ("lines", "later", "asked", "served"),
    [
        (cc("max-age=60, stale-while-revalidate=10"), 60, {}, True),
        (cc("max-age=60, stale-while-revalidate=10"), 69, {}, True),
        (cc("max-age=60, stale-while-revalidate=10"), 70, {}, False),
        (cc("max-age=60, stale-while-revalidate=10, must-revalidate"), 65, {}, False),
        (cc("max-age=60, stale-while-revalidate=10"), 65, cc("no-cache"), False),
        (cc("max-age=60, stale-while-revalidate=10"), 65, cc("only-if-cached"), True),
    ],
)
def test_a_stale_response_may_serve_while_it_is_fetched_anew(
    lines: dict[str, str], later: int, asked: Lines, served: bool
) -> None:
    decision = outcome(TAG | lines, later=later, asked=asked)
    if served:
        assert isinstance(decision, Reuse)
        assert (decision.age, decision.ttl) == (later, 60 - later)
        assert decision.refresh is None or decision.refresh.conditions == {"If-None-Match": '"x"'}
        assert (decision.refresh is None) is ("only-if-cached" in dict(asked).values())
    else:
        assert isinstance(decision, Ask)


def test_what_was_declared_stale_is_not_reused_but_for_errors() -> None:
    stored = replace(fetched(VIDEO | TAG | cc("max-age=60, stale-if-error=20")), stale_since=NOW + 5)
    for now in (NOW + 5, NOW + 24):
        decision = decide(request(), [stored], POLICY, now)
        assert isinstance(decision, Ask)
        assert decision.reason is Forward.STALE
        assert decision.fallback == Reuse(stored, now - NOW, NOW + 5 - now)
    decision = decide(request(), [stored], POLICY, NOW + 25)
    assert isinstance(decision, Ask)
    assert decision.fallback is None


def test_a_targeted_field_decides() -> None:
    lines = cc("max-age=1") | {"CDN-Cache-Control": "max-age=60"}
    assert isinstance(outcome(lines, later=59), Reuse)
    assert reason(outcome(lines, later=60)) is Forward.STALE
    assert reason(outcome(lines, later=59, policy=CachePolicy(targets=()))) is Forward.STALE
    private = cc("max-age=60") | {"CDN-Cache-Control": "private"}
    assert isinstance(judge(request(), 200, CIMultiDict(VIDEO | private), POLICY, NOW), Pass)


def test_of_several_that_match_the_most_recent_is_chosen_by_its_date() -> None:
    older = fetched(VIDEO | {"Date": date(-100)}, at=NOW)
    newer = fetched(VIDEO | {"Date": date(-50)}, at=NOW - 40)
    for candidates in ([older, newer], [newer, older]):
        decision = decide(request(), candidates, POLICY, NOW)
        assert isinstance(decision, Reuse)
        assert decision.stored is newer


def test_ones_own_partition_is_used_where_the_shared_part_is_not_for_all() -> None:
    shared, mine = fetched(VIDEO), fetched(VIDEO, at=NOW - 10, asked=request(COOKIE))
    decision = decide(request(COOKIE), [shared, mine], POLICY, NOW)
    assert isinstance(decision, Reuse)
    assert decision.stored is mine


def test_a_range_is_never_cut_from_a_coded_variant_that_was_asked_for_without_range() -> None:
    gzip = {"Accept-Encoding": "gzip"}
    coded = fetched(HTML | cc("max-age=60") | {"Content-Encoding": "gzip"}, asked=page(gzip))
    assert isinstance(decide(page(gzip), [coded], POLICY, NOW), Reuse)
    assert decide(page(gzip | {"Range": "bytes=0-1"}), [coded], POLICY, NOW) == Ask(Forward.VARY_MISS)
    assert decide(page(), [coded], POLICY, NOW) == Ask(Forward.VARY_MISS)


def test_a_download_that_came_uncoded_is_resumed_from_the_same_response() -> None:
    gzip = {"Accept-Encoding": "gzip, br"}
    whole = fetched(HTML | cc("max-age=60") | {"Vary": "Accept-Encoding"}, asked=page(gzip))
    assert matches(whole, page(gzip | {"Range": "bytes=500-"}), POLICY)
    assert not matches(whole, page({"Accept-Encoding": "zstd"}), POLICY)


def test_ignored_cookies_select_nothing() -> None:
    lines = VIDEO | {"Vary": "Cookie"} | cc("max-age=60")
    stored = fetched(lines, asked=request({"Cookie": "_ga=1; theme=dark"}))
    assert matches(stored, request({"Cookie": "theme=dark; _gid=7"}), POLICY)
    assert not matches(stored, request({"Cookie": "theme=light; _ga=1"}), POLICY)


# --- Properties -----------------------------------------------------------------------------------

directive = st.sampled_from(
    [
        *(
            "no-store",
            "no-cache",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
        ),
        *(
            "max-age=0",
            "max-age=60",
            "s-maxage=0",
            "s-maxage=60",
            'private="x"',
            'no-cache="x"',
            "x=y",
            "max-age=?",
        ),
    ]
)
cache_control = st.lists(directive, max_size=4).map(", ".join)
answers = st.fixed_dictionaries(
    {"Content-Type": st.sampled_from(["video/mp4", "text/html"])},
    optional={
        "Cache-Control": cache_control,
        "ETag": st.sampled_from(['"x"', 'W/"x"', "bad"]),
        "Expires": st.sampled_from(["0", date(60), date(-60)]),
        "Age": st.sampled_from(["0", "30", "90"]),
        "Vary": st.sampled_from(["*", "Accept", "Cookie"]),
        "Set-Cookie": st.just("a=1"),
        "Pragma": st.just("no-cache"),
    },
)
questions = st.fixed_dictionaries(
    {},
    optional={
        "Cookie": st.sampled_from(["session=1", "session=2", "_ga=1"]),
        "Authorization": st.sampled_from(["Basic YTpi", "Basic Yzpk"]),
        "Accept": st.sampled_from(["a", "b"]),
        "Cache-Control": st.sampled_from(["no-cache", "max-age=5", "min-fresh=9", "no-store"]),
    },
)
statuses = st.sampled_from([200, 200, 203, 206, 301, 302, 304, 404, 416, 500])


@given(first=questions, status=statuses, lines=answers, second=questions, later=st.integers(0, 4000))
def test_nothing_is_reused_that_is_stale_or_not_for_this_client(
    first: dict[str, str], status: int, lines: dict[str, str], second: dict[str, str], later: int
) -> None:
    judgement = judge(request(first), status, CIMultiDict(lines), POLICY, NOW)
    if isinstance(judgement, Pass):
        return
    assert "no-store" not in lines.get("Cache-Control", "") or "must-understand" in lines["Cache-Control"]
    assert "Set-Cookie" not in judgement.fields
    assert status not in (206, 304, 416)
    stored = fetched(lines, asked=request(first), status=status)
    decision = decide(request(second), [stored], POLICY, NOW + later)
    if isinstance(decision, Reuse):
        assert decision.ttl > 0
        assert decision.age >= later
        assert matches(stored, request(second), POLICY)
        assert usable_shared(stored, request(second), POLICY)
    if isinstance(decision, Ask):
        assert "ours" not in decision.conditions.get("If-None-Match", "")
