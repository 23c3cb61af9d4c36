"""Who wants a digest, and what is said of one (RFC 9530).  The oracle is the standard library's."""

from base64 import b64encode
from hashlib import sha256

import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.digests import repr_digest, sha256_weight, wants_digest
from proxy.semantics.representation import Representation
from tests.semantics.exchanges import Lines, stored

FILM = bytes(range(256))
TOLD = f"sha-256=:{b64encode(sha256(FILM).digest()).decode()}:"


def wanting(*lines: str) -> CIMultiDict[str]:
    return CIMultiDict([("Want-Repr-Digest", line) for line in lines])


def film(
    fields: Lines | None = None, *, status: int = 200, digest: bytes | None = sha256(FILM).digest()
) -> Representation:
    of_the_origin = stored(fields or {}, len(FILM), status=status)
    return Representation(
        status, of_the_origin.fields, of_the_origin.validators, of_the_origin.complete_length, digest
    )


@pytest.mark.parametrize(
    ("lines", "weight"),
    [
        (["sha-256=1"], 1),
        (["sha-256=10"], 10),
        (["sha-256=0"], 0),
        (["sha-512=3, sha-256=10, unixsum=0"], 10),
        (["sha-512=3", "sha-256=2"], 2),
        (["sha-256=5;q=1"], 5),
        (["sha-256=1, sha-256=0"], 0),
        (["\tsha-256=3 ,\tsha-512=1 "], None),  # no tab may come first
        ([" sha-256=3 ,\tsha-512=1 "], 3),
        (["sha-512=10=, nonsense=1, x"], None),
        (["sha-512=99, sha-256=4"], 4),  # of another algorithm anything may be said
        (["sha-512=10"], None),
        (["sha-256x=1"], None),
        ([""], None),
        ([], None),
        (["sha-256"], None),
        (["sha-256=?1"], None),
        (["sha-256=?0"], None),
        (["sha-256=11"], None),
        (["sha-256=-1"], None),
        (["sha-256=1.0"], None),
        (['sha-256="1"'], None),
        (["sha-256=(1)"], None),
        (["sha-256=:AAAA:"], None),
        (["SHA-256=1"], None),
        (["sha-256=1,"], None),
        (["sha-256=1", "é"], None),
        (["sha-256=1, \udcff"], None),
        (["*"], None),
    ],
)
def test_the_weight_of_sha_256(lines: list[str], weight: int | None) -> None:
    fields = wanting(*lines)
    assert sha256_weight(fields) == weight
    assert wants_digest(fields, film()) == (weight is not None and weight > 0)
    assert repr_digest(fields, film()) == (None if weight == 0 else TOLD)


KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,10}", fullmatch=True)


@given(st.dictionaries(KEYS, st.integers(-5, 15)), st.integers(-5, 15) | st.none())
@example({"sha-512": 3}, 10)
def test_the_weight_among_others(others: dict[str, int], weight: int | None) -> None:
    weights = others | ({} if weight is None else {"sha-256": weight})
    members = [f"{key}={value}" for key, value in weights.items()]
    said = weights.get("sha-256", -1)
    assert sha256_weight(wanting(*members)) == (said if 0 <= said <= 10 else None)
    assert sha256_weight(wanting(", ".join(members))) == sha256_weight(wanting(*members))


@given(st.lists(st.text(st.characters(codec=None))))
def test_any_garbage_is_read(lines: list[str]) -> None:
    weight = sha256_weight(wanting(*lines))
    assert weight is None or 0 <= weight <= 10


@given(st.binary(max_size=1000))
def test_what_is_told_is_a_structured_field(body: bytes) -> None:
    value = repr_digest(CIMultiDict(), film(digest=sha256(body).digest()))
    assert value is not None
    assert http_sf.parse(value.encode(), tltype="dictionary") == {"sha-256": (sha256(body).digest(), {})}


def test_what_is_not_known_is_wanted_and_not_told() -> None:
    assert wants_digest(wanting("sha-256=1"), film(digest=None))
    assert repr_digest(wanting("sha-256=1"), film(digest=None)) is None


@pytest.mark.parametrize("value", ["sha-256=:AAAA:", "sha-512=:AAAA:", "broken"])
def test_the_origins_word_stands_alone(value: str) -> None:
    given_one = film({"repr-digest": value})
    assert not wants_digest(wanting("sha-256=1"), given_one)
    assert repr_digest(wanting("sha-256=1"), given_one) is None


@pytest.mark.parametrize("status", [203, 301, 404, 410])
def test_other_statuses_have_none_of_ours(status: int) -> None:
    assert not wants_digest(wanting("sha-256=1"), film(status=status))
    assert repr_digest(wanting("sha-256=1"), film(status=status)) is None
