"""ORCPT: whatever is taken can be sent on in both forms, and means the same there."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.orcpt import fault, in_report, on_the_wire

WIRE = re.compile(r"utf-8;(?:[!-*,-<>-\[\]-~]|\\x\{[0-9A-F]{2,6}\}|[^\x00-\xa0\s])+")  # RFC 6533 section 3


@given(st.text(min_size=1, max_size=90))
def test_what_is_taken_goes_on_in_both_forms(text: str) -> None:
    value = f"utf-8;{text}"
    if text.isprintable() and fault(value, smtputf8=True) == "":
        wide, narrow = on_the_wire(value, smtputf8=True), on_the_wire(value, smtputf8=False)
        assert WIRE.fullmatch(wide) and WIRE.fullmatch(narrow or wide) and narrow.isascii()
        for made in filter(None, (wide, narrow)):
            assert fault(made, smtputf8=made is wide) == "" and on_the_wire(made, smtputf8=True) == wide
            assert in_report(made, wide=True) == in_report(value, wide=True)


@given(st.text(max_size=60), st.booleans())
def test_no_value_of_a_damaged_row_leaves_its_parameter(value: str, smtputf8: bool) -> None:
    for made in (on_the_wire(value, smtputf8=smtputf8), on_the_wire(f"utf-8;{value}", smtputf8=smtputf8)):
        assert not re.search(r"[\s\x00-\x20\x7f=]", made)
        assert smtputf8 or made.isascii()
