"""Queries, and other spellings of the same text (RFC 3986 section 6.2.2)."""

import re

from hypothesis import strategies as st

_CHARACTER = re.compile("%[0-9A-Fa-f]{2}|[^%]|%")

names = st.sampled_from(["a", "b", "b1", "~", "a%5B%5D", "%C3%A4", "", "A"])
parameters = st.builds(str.__add__, names, st.sampled_from(["", "=", "=1", "=%2F", "=1;a=2", "=+", "=%20"]))
queries = st.lists(parameters, min_size=1, max_size=6).map("&".join)
"""Queries in the normal form."""


@st.composite
def respellings(draw: st.DrawFn, text: str) -> str:
    """Another spelling of `text`: unreserved characters encoded here and there, hexadecimal digits in any case."""
    return "".join(draw(_spellings(character)) for character in _CHARACTER.findall(text))


def _spellings(character: str) -> st.SearchStrategy[str]:
    if len(character) == 3:
        return st.sampled_from([character.upper(), character.lower()])
    if re.fullmatch("[A-Za-z0-9._~-]", character):
        return st.sampled_from([character, f"%{ord(character):02X}", f"%{ord(character):02x}"])
    return st.just(character)
