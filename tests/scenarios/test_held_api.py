"""/api/v1/held over a real gateway: each route for the key's own tenant only, and deciding twice is deciding once."""

from __future__ import annotations

import json
from typing import Any

from tests.harness.gateway import SENDER, Gateway
from tests.harness.moody import Moody
from tests.harness.post import letter, outsiders, post
from tests.harness.web import ask
from tests.scenarios.conftest import Start

PEOPLE = outsiders(15)
ASK = {"recipients": {"exposed": {"personal": "ask"}}}
HOSTILE = '<p onclick="x()">Dear all</p><script>steal()</script><img src="http://evil.example/p.gif">'


def keys(gateway: Gateway) -> tuple[str, str]:
    """A key of the shop and one of another tenant, when the web process knows both."""
    gateway.op("tenant.add", name="rival", legal_name="Rival BV")
    made = [str(gateway.op("apikey.add", tenant=name, name="held")["secret"]) for name in ("shop", "rival")]
    gateway.until(lambda: all(ask(gateway, "/api/v1/held", key=key)[0] == 200 for key in made), 10.0, "no keys")
    return made[0], made[1]


def call(gateway: Gateway, key: str, path: str, body: Any = None, *, posts: bool = False) -> tuple[int, Any]:
    octets = json.dumps(body).encode() if body is not None else b"" if posts else None
    status, text = ask(gateway, f"/api/v1/held{path}", octets, key=key)
    return status, json.loads(text)


def hold(gateway: Gateway, name: str) -> str:
    kind = "Content-Type: text/html; charset=utf-8"
    fields = ("To: " + ",\r\n ".join(PEOPLE), f"Subject: {name}", f"Message-ID: <{name}@s.example>", kind)
    return post(gateway, "personal", PEOPLE, letter(*fields, body=HOSTILE)).queue_id


def left(hop: Moody, name: str) -> int:
    return sum(f"Subject: {name}" in m.head and not m.mail.startswith("MAIL FROM:<>") for m in hop.wait(0))


def test_a_tenant_sees_and_decides_his_own_held_mail_and_no_other_can(start: Start) -> None:
    gateway, hop = start(workers=2, policies=ASK)
    shop, rival = keys(gateway)
    ids = sorted(hold(gateway, f"mail{number}") for number in range(4))
    status, page = call(gateway, shop, "")
    assert status == 200 and [row["id"] for row in page["held"]] == ids and "next" not in page
    row = page["held"][0]
    assert (row["rule"], row["reason"], row["sender"]) == ("CC-10", "recipients.ask", SENDER)
    assert (
        row["sender_may_choose"] == ["split", "hidden"]
        and "15 people" in row["why"]
        and "@party" not in json.dumps(page)
    )
    _, first = call(gateway, shop, "?limit=3")
    _, second = call(gateway, shop, f"?limit=3&after={first['next']}")
    assert [row["id"] for row in first["held"] + second["held"]] == ids
    status, shown = call(gateway, shop, f"/{ids[0]}")
    assert status == 200 and shown["recipients"] == PEOPLE and shown["subject"].startswith("mail")
    status, html = ask(gateway, f"/api/v1/held/{ids[0]}/preview", key=shop)
    assert status == 200 and "Dear all" in html
    assert 'evil.example/p.gif"' not in html and "steal" not in html and "onclick" not in html
    # another tenant, route by route
    assert call(gateway, rival, "") == (200, {"held": []})
    for path, body, posts in (
        (f"/{ids[0]}", None, False),
        (f"/{ids[0]}/preview", None, False),
        (f"/{ids[0]}/release", {"recipients": "as_written"}, True),
        (f"/{ids[0]}/refuse", None, True),
    ):
        status, problem = call(gateway, rival, path, body, posts=posts)
        assert status == 404 and "@" not in json.dumps(problem), path
    assert gateway.op("queue.stats")["held"] == 4
    # what is no order
    for body, status in (({}, 422), ({"recipients": "all"}, 422), ({"recipients": "split", "x": 1}, 422), ([], 422)):
        assert call(gateway, shop, f"/{ids[0]}/release", body)[0] == status
    assert call(gateway, shop, "/nope")[0] == 422 and call(gateway, shop, "/0000000000000")[0] == 404
    assert call(gateway, shop, "?limit=0")[0] == 422 and gateway.op("queue.stats")["held"] == 4
    # deciding
    for number, (order, copies) in enumerate((("split", 15), ("hidden", 1), ("as_written", 1))):
        path, name = f"/{ids[number]}/release", call(gateway, shop, f"/{ids[number]}")[1]["subject"]
        answer = {"id": ids[number], "state": "released", "recipients": order}
        assert call(gateway, shop, path, {"recipients": order}) == (200, answer | {"changed": True})
        assert hop.until(lambda: left(hop, name) == copies)  # noqa: B023 asked at once
        for _ in range(2):
            assert call(gateway, shop, path, {"recipients": order}) == (200, answer | {"changed": False})
        status, problem = call(gateway, shop, f"/{ids[number]}/refuse", posts=True)
        assert status == 409 and "released already" in problem["detail"]
        assert call(gateway, rival, f"/{ids[number]}/refuse", posts=True)[0] == 404
        assert call(gateway, shop, f"/{ids[number]}")[0] == 404
    done = {"id": ids[3], "state": "refused"}
    assert call(gateway, shop, f"/{ids[3]}/refuse", posts=True) == (200, done | {"changed": True})
    assert call(gateway, shop, f"/{ids[3]}/refuse", posts=True) == (200, done | {"changed": False})
    assert call(gateway, shop, f"/{ids[3]}/release", {"recipients": "split"})[0] == 409
    gateway.settle()
    assert sum(left(hop, f"mail{number}") for number in range(4)) == 15 + 1 + 1
    reports = [
        m.raw.decode() for m in hop.wait(0) if "Your administrator decided" in m.raw.decode().replace("=\r\n", "")
    ]
    assert len(reports) == 1
    assert call(gateway, shop, "") == (200, {"held": []})
