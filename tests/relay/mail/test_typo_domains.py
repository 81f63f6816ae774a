"""The list of typing errors (REP-4): nobody's mail may be refused by a mistake in it."""

from __future__ import annotations

from relay.mail.domain import _TYPOS, is_freemail, meant_by


def test_each_error_is_near_a_provider_and_is_none_itself() -> None:
    assert len(_TYPOS) > 150
    for wrong, meant in _TYPOS.items():
        assert not is_freemail(wrong) or wrong.split(".")[0] == meant.split(".")[0], wrong
        assert meant not in _TYPOS and wrong == wrong.lower()
        assert is_freemail(meant), f"{meant} is no mailbox provider"


def test_what_was_meant() -> None:
    assert meant_by("jan@gmial.com") == meant_by("JAN@GMIAL.COM.") == "gmail.com"
    assert meant_by("jan@ziggo.n") == "ziggo.nl" and meant_by("jan@hotmial.com") == "hotmail.com"
    for right in ("jan@gmail.com", "jan@ziggo.nl", "jan@shop.example", "jan", "", "@", "jan@[192.0.2.1]"):
        assert meant_by(right) == ""
