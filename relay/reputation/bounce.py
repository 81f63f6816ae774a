"""What the end of one delivery says about the list it was sent to (FB-3). Pure.

Only a refusal for good of the address or its mailbox is a bounce. Providers use 5.7.x for blocks, and some write a code of the
address class into a block, so their words go first; what nobody knows is no bounce.
"""

from __future__ import annotations

import re

from relay.counters.ring import BOUNCED, REFUSED, UNKNOWN

_BLOCKED = re.compile(
    r"spam|block|blacklist|reputation|rbl|dnsbl|policy|rate ?limit|too many|quota|mailbox (is )?full|over ?quota", re.I
)
_ADDRESS = re.compile(r"[^\s<>@]{0,64}@[\w.-]{0,255}")  # nobody is blocked for being called Blockmans
_NO_SUCH = re.compile(
    r"user unknown|unknown user|no such (user|recipient|mailbox|address|person)|(user|mailbox|recipient|address|account) "
    r"(does ?n[o']t exist|not found|unknown)|does not exist|no mailbox|invalid (recipient|mailbox|address)",
    re.I,
)
_UNKNOWN_STATUS = frozenset(("5.1.1", "5.1.6"))
_BAD_STATUS = frozenset(("5.1.2", "5.1.3", "5.1.10", "5.2.1", "5.4.4"))
_NO_STATUS = "5.0.0"  # the host gave none
_NO_MAILBOX = frozenset((550, 551, 553))


def kind_of(status: str, text: str, code: int = 550) -> int:
    """What a refusal for good was: a code of relay.counters.ring. `text` is what the host said, `code` its basic code."""
    if text and _BLOCKED.search(_ADDRESS.sub("", text)):
        return REFUSED
    if status in _UNKNOWN_STATUS:
        return UNKNOWN
    if status in _BAD_STATUS:
        return BOUNCED
    if status == _NO_STATUS and code in _NO_MAILBOX and _NO_SUCH.search(text):
        return UNKNOWN
    return REFUSED
