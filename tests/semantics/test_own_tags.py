"""Tags of ours stay between us and our clients."""

import pytest
from multidict import CIMultiDict

from proxy.semantics.own_tags import is_own, own_tag, without_own_tags
from proxy.semantics.validators import EntityTag

OURS = f'"ra-{"0123456789abcdef" * 2}"'


def test_ours_is_strong_and_recognised() -> None:
    tag = own_tag("0123456789abcdef" * 2)
    assert str(tag) == OURS
    assert is_own(tag)
    assert is_own(EntityTag(tag.opaque, weak=True))
    assert not is_own(EntityTag("ra-1"))


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, {}),
        ({"If-Match": OURS}, None),
        ({"If-Match": f"{OURS}, W/{OURS}"}, None),
        ({"If-Match": f'{OURS}, "x"'}, {"If-Match": '"x"'}),
        ({"If-Match": "*"}, {"If-Match": "*"}),
        ({"If-Match": "garbage"}, {"If-Match": "garbage"}),
        ({"If-Match": '"x","y"'}, {"If-Match": '"x","y"'}),
        ({"If-None-Match": OURS}, {}),
        ({"If-None-Match": f'W/"a,b",{OURS}'}, {"If-None-Match": 'W/"a,b"'}),
        ({"If-Range": OURS, "Range": "bytes=0-1"}, {}),
        ({"If-Range": '"x"', "Range": "bytes=0-1"}, {"If-Range": '"x"', "Range": "bytes=0-1"}),
        ({"If-Match": '"x"', "If-None-Match": OURS, "A": "b"}, {"If-Match": '"x"', "A": "b"}),
    ],
)
def test_what_the_origin_sees(fields: dict[str, str], kept: dict[str, str] | None) -> None:
    assert without_own_tags(CIMultiDict(fields)) == (None if kept is None else CIMultiDict(kept))


def test_several_lines_are_one_list() -> None:
    fields = CIMultiDict([("If-Match", '"x"'), ("If-Match", OURS), ("If-Match", '"y"')])
    assert without_own_tags(fields) == CIMultiDict({"If-Match": '"x", "y"'})
