"""One stored object: what is known of it, and how that is written down in its head file."""

import json
import re
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import SpoolError
from proxy.semantics.freshness import Scope, Stored
from proxy.semantics.own_tags import own_tag
from proxy.semantics.purging import Location
from proxy.semantics.representation import Representation
from proxy.semantics.validators import origin_validators
from proxy.spool.seal import is_sealed, sealed

FORMAT = 5
"""Of the head file; a head of another format is not read."""

_GENERATION = re.compile(r"[0-9a-f]{32}")


def new_generation() -> str:
    """A name for one fetch of one object: 32 hex digits, never used twice."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored object.

    `key` is its primary key's digest, `target` that of the target's shared key, the same for all credentials;
    `partition` is the digest of the credential it belongs to.  By its `location` and its `tags` it can be purged;
    `epoch` is that of the spool when its request was sent, or when a purge was written into it: later purges are
    about it.  `checksum` is the CRC-32 of the body, known as soon as that is whole; `digest` is its SHA-256, once
    somebody has wanted to know.  `mtime` is when its file was last written (nanoseconds), once nobody of us writes it
    any more; `boot`, of one that is unfinished, which start of the machine all its bytes came in, "" where they are
    not confirmed.
    """

    key: bytes
    target: bytes
    generation: str
    label: str
    partition: bytes | None
    stored: Stored
    location: Location
    tags: tuple[str, ...] = ()
    epoch: int = 0
    checksum: int | None = None
    digest: bytes | None = None
    mtime: int | None = field(default=None, compare=False)
    boot: str = field(default="", compare=False)

    @property
    def length(self) -> int:
        """Of the body, in bytes.  Entries are complete, so it is known."""
        length = self.stored.representation.complete_length
        assert length is not None
        return length

    def completed(self, length: int) -> "Entry":
        """This entry, once its body is known to have `length` bytes."""
        representation = replace(self.stored.representation, complete_length=length)
        return replace(self, stored=replace(self.stored, representation=representation))


def with_stale_since(entry: Entry, since: int | None) -> Entry:
    """The entry, declared stale since then (seconds since the epoch)."""
    return replace(entry, stored=replace(entry.stored, stale_since=since))


def dump_head(entry: Entry) -> str:
    """The head file's text: one line of ASCII JSON.  Its last member is the CRC-32 of what it is without that."""
    stored, representation = entry.stored, entry.stored.representation
    text = json.dumps(
        {
            "format": FORMAT,
            "key": entry.key.hex(),
            "target": entry.target.hex(),
            "generation": entry.generation,
            "label": entry.label,
            "partition": entry.partition.hex() if entry.partition else None,
            "status": representation.status,
            "fields": list(representation.fields.items()),
            "complete_length": representation.complete_length,
            "request_time": stored.request_time,
            "response_time": stored.response_time,
            "vary": stored.vary,
            "stale_since": stored.stale_since,
            "location": [entry.location.host, entry.location.path],
            "tags": entry.tags,
            "epoch": entry.epoch,
            "checksum": entry.checksum,
            "digest": entry.digest.hex() if entry.digest else None,
            "mtime": entry.mtime,
            "boot": entry.boot,
        }
    )
    return sealed(text)


def load_head(text: str | bytes) -> Entry:
    """The reverse of `dump_head`.  Raises SpoolError for anything else: what is on a disk is not to be trusted."""
    try:
        head: dict[str, Any] = json.loads(text)
        if head["format"] != FORMAT:
            raise SpoolError(f"head of format {head['format']}, not {FORMAT}")
        if not is_sealed(text):
            raise SpoolError("head that has rotted: its checksum is another one")
        if not _GENERATION.fullmatch(head["generation"]):  # it becomes a path
            raise SpoolError("head of an impossible generation")
        fields = CIMultiDictProxy(CIMultiDict([(str(name), str(value)) for name, value in head["fields"]]))
        length, checksum, stale_since = head["complete_length"], head["checksum"], head["stale_since"]
        host, path = head["location"]
        representation = Representation(
            status=int(head["status"]),
            fields=fields,
            validators=origin_validators(fields, own_tag(head["generation"])),
            complete_length=None if length is None else int(length),
        )
        return Entry(
            key=bytes.fromhex(head["key"]),
            target=bytes.fromhex(head["target"]),
            generation=head["generation"],
            label=str(head["label"]),
            partition=bytes.fromhex(head["partition"]) if head["partition"] else None,
            stored=Stored(
                representation=representation,
                request_time=int(head["request_time"]),
                response_time=int(head["response_time"]),
                vary=tuple((str(name), None if v is None else str(v)) for name, v in head["vary"]),
                scope=Scope.PARTITION if head["partition"] else Scope.SHARED,
                stale_since=None if stale_since is None else int(stale_since),
            ),
            location=Location(None if host is None else str(host), str(path)),
            tags=tuple(str(tag) for tag in head["tags"]),
            epoch=int(head["epoch"]),
            checksum=None if checksum is None else int(checksum),
            digest=bytes.fromhex(head["digest"]) if head["digest"] else None,
            mtime=None if head["mtime"] is None else int(head["mtime"]),
            boot=str(head["boot"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise SpoolError(f"unreadable head: {error}") from error
