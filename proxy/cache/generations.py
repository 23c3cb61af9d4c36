"""What an answer is stored as: a new generation, or one that is known already."""

from dataclasses import replace

from multidict import CIMultiDictProxy

from proxy.cache.answer import Answer
from proxy.cache.wanted import Wanted
from proxy.semantics.fields import joined
from proxy.semantics.freshness import Scope, Stored
from proxy.semantics.own_tags import own_tag
from proxy.semantics.purging import tags_of
from proxy.semantics.representation import Representation
from proxy.semantics.storing import Store
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry, new_generation


def new_entry(wanted: Wanted, verdict: Store, answer: Answer, now: int) -> Entry:
    """What an answer, arrived at `now`, is stored as: a new generation."""
    generation = new_generation()
    key, partition = wanted.shared_key, None
    if verdict.scope is Scope.PARTITION:
        assert wanted.partition_key is not None, "only credentials make an answer personal"
        key, partition = wanted.partition_key, wanted.partition
    fields = CIMultiDictProxy(verdict.fields)
    return Entry(
        key=key.digest,
        target=wanted.target_key.digest,
        generation=generation,
        label=key.text,
        partition=partition,
        stored=Stored(
            representation=Representation(
                status=answer.response.status,
                fields=fields,
                validators=origin_validators(fields, own_tag(generation)),
                complete_length=answer.response.content_length,
            ),
            request_time=answer.request_time,
            response_time=now,
            vary=verdict.vary,
            scope=verdict.scope,
        ),
        location=wanted.location,
        tags=tags_of(answer.response.fields, wanted.policy.tag_fields),
        epoch=answer.epoch,
    )


def whole_of(entry: Entry, old: Entry, stored: int) -> Entry | None:
    """`old`, of which `stored` bytes have come, with what a new answer says; None if it cannot be the whole of it."""
    length, was = entry.stored.representation.complete_length, old.stored.representation.complete_length
    fits = length == was if was is not None else length is None or length >= stored
    twin = _same(entry, old) if fits else None
    if twin is None:
        return None
    # Of what was unknown, the end alone decides.  And purges since the first request are about it.
    return replace(twin, epoch=old.epoch, stored=_with_length(twin.stored, was))


def same_as(entry: Entry, old: Entry) -> Entry | None:
    """`old`, with what a new answer says of it; None if the two cannot have the same bytes and the same tag."""
    if old.length == 0 or entry.stored.representation.complete_length not in {None, old.length}:
        return None
    twin = _same(entry, old) if old.stored.representation.status == 200 else None
    return twin and replace(twin, stored=_with_length(twin.stored, old.length))


def _same(entry: Entry, old: Entry) -> Entry | None:
    """The generation of `old`, as a new answer describes it; None if they differ in more than their length."""
    new, was = entry.stored, old.stored
    fields = new.representation.fields
    validators = origin_validators(fields, own_tag(old.generation))
    is_the_same = (
        entry.key == old.key
        and new.vary == was.vary
        and new.representation.status == was.representation.status
        and validators.etag == was.representation.validators.etag
        and all(
            joined(fields, name) == joined(was.representation.fields, name)
            for name in ("Content-Type", "Content-Encoding")
        )
    )
    if not is_the_same:
        return None
    return replace(
        entry,
        generation=old.generation,
        checksum=old.checksum,
        digest=old.digest,
        stored=replace(new, representation=replace(new.representation, validators=validators)),
    )


def _with_length(stored: Stored, length: int | None) -> Stored:
    return replace(stored, representation=replace(stored.representation, complete_length=length))
