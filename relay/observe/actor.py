"""Who asks for what is being done, for the audit and the ledger (GDPR-2). It goes with a request over the control socket.

`operator:<login>` at the command line, `api:<key>` for a tenant's program, `person` over a page or link, `gateway` for what it
does by itself.
"""

from __future__ import annotations

from contextvars import ContextVar

OPERATOR = "operator"
GATEWAY = "gateway"
PERSON = "person"
MOST_CHARS = 200

actor: ContextVar[str] = ContextVar("actor", default=GATEWAY)
