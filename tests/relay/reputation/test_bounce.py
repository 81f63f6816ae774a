"""What answers of hosts say about the list: the sample lines of the rulebook (section 11) and what they are taken for."""

from __future__ import annotations

import pytest

from relay.counters.ring import BOUNCED, REFUSED, UNKNOWN
from relay.delivery.outcome import Failed, Stage, judge
from relay.delivery.replies import Reply
from relay.reputation.bounce import kind_of

SAMPLES = [
    (550, b"5.1.1 The email account that you tried to reach does not exist", UNKNOWN),
    (550, b"5.1.1 <ann@example.net>: Recipient address rejected: User unknown in local recipient table", UNKNOWN),
    (550, b"No such user here", UNKNOWN),
    (550, b"Requested action not taken: mailbox unavailable", UNKNOWN),
    (550, b"5.1.2 Bad destination system address", BOUNCED),
    (556, b"5.1.10 Recipient address has null MX", BOUNCED),
    (550, b"5.2.1 The email account that you tried to reach is disabled", BOUNCED),
    (552, b"5.2.2 The email account that you tried to reach is over quota", REFUSED),
    (550, b"5.7.1 not RFC 5322 compliant: duplicate headers", REFUSED),
    (550, b"5.7.1 part of their network is on our block list (S3150)", REFUSED),
    (550, b"5.7.26 This mail has been blocked because the sender is unauthenticated", REFUSED),
    (553, b"5.7.1 [BL21] Connections will not be accepted from 192.0.2.1", REFUSED),
    (554, b"5.7.1 Service unavailable; client host blocked using zen.spamhaus.org", REFUSED),
    (550, b"5.1.1 Mail rejected due to the reputation of your address", REFUSED),
    (571, b"Message refused", REFUSED),
    (550, b"5.1.1 <m.blockmans@policy.example>: Recipient address rejected: User unknown", UNKNOWN),
    (550, b"antispam@rbl.example: no such user", UNKNOWN),
    (550, b"5.1.1 <ann@example.net>: rejected, your host is on a blocklist (postmaster@example.net)", REFUSED),
]


@pytest.mark.parametrize(("code", "text", "kind"), SAMPLES, ids=[text.decode()[:60] for _, text, _ in SAMPLES])
def test_an_answer_is_taken_for(code: int, text: bytes, kind: int) -> None:
    outcome = judge(Reply(code, text), "mx.example.net", Stage.RCPT)
    assert isinstance(outcome, Failed)
    assert kind_of(outcome.status, outcome.reply, outcome.code) == kind


@pytest.mark.parametrize(
    ("status", "kind"), [("5.1.1", UNKNOWN), ("5.2.1", BOUNCED), ("5.0.0", REFUSED), ("5.7.1", REFUSED)]
)
def test_without_words_the_status_alone_counts(status: str, kind: int) -> None:
    assert kind_of(status, "") == kind
