"""What we make of a case, what another cache does, and which rule explains the difference.

The other cache is told the case step by step in words that it understands: each `Difference` rewords one thing
which it reads otherwise than we do.  Reworded by all, it has to say what we say.  So a rule cannot hide more
than it names, and where the two differ, one rule is the one that reconciles them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, TypeAlias, assert_never

from multidict import CIMultiDict

from proxy.semantics.freshness import Scope, Stored
from proxy.semantics.key import partition
from proxy.semantics.policy import CachePolicy
from proxy.semantics.representation import Representation
from proxy.semantics.reuse import Ask, Refuse, Reuse, decide
from proxy.semantics.storing import Pass, judge
from proxy.semantics.validators import EntityTag, origin_validators
from tests.semantics.answers import NOW, page
from tests.semantics.cases import Case

TTL = 3600
POLICY = CachePolicy(ttl=TTL, heuristic=0.1, stale_if_error=0, stale_while_revalidate=0)


class Verdict(Enum):
    """What becomes of an answer, and of the request after it."""

    NOT_STORED = "not stored"
    REUSED = "reused"
    VALIDATED = "validated"
    FETCHED = "fetched"
    REFUSED = "refused"


class Said(NamedTuple):
    """A verdict; of what is reused also its age, and for how long it is still fresh, in seconds, where known."""

    verdict: Verdict
    age: int | None = None
    ttl: int | None = None

    def contradicts(self, other: "Said") -> bool:
        numbers = ((self.age, other.age), (self.ttl, other.ttl))
        return self.verdict is not other.verdict or any(
            None not in both and both[0] != both[1] for both in numbers
        )


Oracle: TypeAlias = Callable[[Case], Said]


@dataclass(frozen=True, slots=True)
class Difference:
    """What the other cache reads otherwise, why, and how to tell it what we understand.

    `reworded` leaves a case as it is where the rule does not apply.  `read` is for what it has no words for.
    """

    name: str
    reason: str
    reworded: Callable[[Case], Case] = lambda case: case
    read: Callable[[Case, Said], Said] = lambda case, said: said


def ours(case: Case) -> Said:
    """What we say of a case."""
    asked, again = page(list(case.asked.lines)), page(list(case.again.lines))
    again = replace(again, method=case.method)
    judgement = judge(asked, case.status, CIMultiDict(case.answer.lines), POLICY, NOW)
    if isinstance(judgement, Pass):
        return Said(Verdict.NOT_STORED)
    validators = origin_validators(judgement.fields, EntityTag("ours"))
    representation = Representation(case.status, judgement.fields, validators, 1000)
    stored = Stored(representation, NOW, NOW, vary=judgement.vary, scope=judgement.scope)
    owner = partition(asked, POLICY, b"") if judgement.scope is Scope.PARTITION else None
    found = owner is None or owner == partition(again, POLICY, b"")
    decision = decide(again, [stored] if found else [], POLICY, NOW + case.elapsed)
    match decision:
        case Reuse():
            return Said(Verdict.REUSED, decision.age, max(0, decision.ttl))
        case Ask():
            return Said(Verdict.VALIDATED if decision.conditions else Verdict.FETCHED)
        case Refuse():
            return Said(Verdict.REFUSED)
        case _:
            assert_never(decision)


class Step(NamedTuple):
    """What the other says after one rule more."""

    rule: str
    case: Case
    said: Said


@dataclass(frozen=True, slots=True)
class Comparison:
    """What we say, and how what the other says changes from rule to rule; first of the case as it is."""

    ours: Said
    steps: tuple[Step, ...]

    @property
    def agreed(self) -> bool:
        return self.steps[0].said.verdict is self.ours.verdict

    @property
    def is_explained(self) -> bool:
        return not self.steps[-1].said.contradicts(self.ours)

    @property
    def reconciled_by(self) -> str:
        """The rule after which the other's verdict is ours, and stays so."""
        differing = [at for at, step in enumerate(self.steps) if step.said.verdict is not self.ours.verdict]
        return self.steps[differing[-1] + 1].rule

    def __str__(self) -> str:
        told = [f"we say: {_written(self.ours)}; the case, and how it was reworded:"]
        before = None
        for rule, case, said in self.steps:
            if before != (case, said):
                told.append(f"{rule}: {_written(said)}\n{case}")
            before = case, said
        return "\n".join(told)


def _written(said: Said) -> str:
    numbers = "" if said.age is None else f", age {said.age}, ttl {said.ttl}"
    return said.verdict.value + numbers


def compare(case: Case, oracle: Oracle, differences: Sequence[Difference]) -> Comparison:
    """Tell the other the case, reworded by one rule more at each step."""
    steps = [Step("as it is", case, oracle(case))]
    readings: list[Difference] = []
    for rule in differences:
        _, asked, said = steps[-1]
        reworded = rule.reworded(asked)
        if reworded != asked:
            said = oracle(reworded)
            for earlier in readings:
                said = earlier.read(case, said)
        readings.append(rule)
        steps.append(Step(rule.name, reworded, rule.read(case, said)))
    return Comparison(ours(case), tuple(steps))


class Tally:
    """What came of many comparisons."""

    def __init__(self, differences: Sequence[Difference]) -> None:
        self.differences = differences
        self.agreed = 0
        self.claimed: Counter[str] = Counter()

    def add(self, comparison: Comparison) -> None:
        assert comparison.is_explained, f"no rule explains this\n{comparison}"
        if comparison.agreed:
            self.agreed += 1
        else:
            self.claimed[comparison.reconciled_by] += 1

    @property
    def idle(self) -> list[str]:
        """The rules that have not explained anything."""
        return [rule.name for rule in self.differences if not self.claimed[rule.name]]
