"""Every operation by its name: what it runs, whether it writes, and whose readers it concerns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from relay.owner import (
    apikeys,
    audits,
    consents,
    credentials,
    deletions,
    dkim_keys,
    domains,
    exports,
    holdings,
    holds,
    hook_events,
    imports,
    incident_watch,
    incidents,
    keys,
    limits,
    moves,
    mydata,
    objections,
    once,
    optins,
    outcomes,
    pages,
    policies,
    proofs,
    purposes,
    refusals,
    retention,
    standings,
    suspensions,
    tenants,
    webhooks,
)
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.store.generation import CONSENT, DIRECTORY


class Operation(NamedTuple):
    """`slots` are the generation counters to bump after the commit; it is audited then, too.

    Without slots it only reads; `writes`: it writes what no reader keeps, and `audited` says whether that leaves an audit row:
    for what hands out personal data, that row is all it writes (GDPR-2).
    """

    run: Callable[[Desk, Args], Result]
    slots: tuple[int, ...] = ()
    writes: bool = False
    audited: bool = False


_D, _C = (DIRECTORY,), (CONSENT,)

OPERATIONS = {
    "tenant.add": Operation(tenants.add, _D),
    "tenant.list": Operation(tenants.list_all),
    "tenant.show": Operation(tenants.show),
    "tenant.set": Operation(tenants.change, _D),
    "tenant.suspend": Operation(suspensions.suspend_tenant, _D),
    "tenant.resume": Operation(suspensions.resume_tenant, _D),
    "domain.add": Operation(domains.add, _D),
    "domain.verify": Operation(domains.verify, _D),
    "domain.list": Operation(domains.list_all),
    "credential.add": Operation(credentials.add, _D),
    "credential.list": Operation(credentials.list_all),
    "credential.revoke": Operation(credentials.revoke, _D),
    "credential.alarm": Operation(credentials.alarm, _D),
    "credential.suspend": Operation(suspensions.suspend_credential, _D),
    "credential.resume": Operation(suspensions.resume_credential, _D),
    "suspension.list": Operation(suspensions.list_all),
    "suspension.follow": Operation(suspensions.follow, _D),
    "suspension.told": Operation(suspensions.told, _D),
    "purpose.add": Operation(purposes.add, _D),
    "purpose.list": Operation(purposes.list_all),
    "keys.list": Operation(keys.list_all),
    "keys.rotate": Operation(keys.rotate, (DIRECTORY, CONSENT)),
    "dkim.add": Operation(dkim_keys.add, _D),
    "dkim.rotate": Operation(dkim_keys.rotate, _D),
    "dkim.dns": Operation(dkim_keys.dns),
    "dkim.list": Operation(dkim_keys.list_all),
    "dkim.check": Operation(dkim_keys.check, _D),
    "dkim.activate": Operation(dkim_keys.activate, _D),
    "policy.mode": Operation(policies.mode, _D),
    "policy.list": Operation(policies.list_all),
    "limit.set": Operation(limits.change, _D),
    "limit.reset": Operation(limits.reset, _D),
    "reputation.release": Operation(standings.release, _D),
    "outcome.tell": Operation(outcomes.tell, _C),
    "suppression.bounced": Operation(outcomes.bounced, _C),
    "limit.list": Operation(limits.list_all),
    "audit.list": Operation(audits.list_all),
    "apikey.add": Operation(apikeys.add, _D),
    "apikey.list": Operation(apikeys.list_all),
    "apikey.revoke": Operation(apikeys.revoke, _D),
    "apikey.used": Operation(apikeys.used, writes=True),
    "consent.give": Operation(consents.give, _C),
    "consent.import_rows": Operation(consents.import_rows, _C),
    "consent.import_place": Operation(imports.place),
    "consent.import_done": Operation(imports.finish, writes=True),
    "consent.request": Operation(optins.request, _C),
    "consent.confirm": Operation(optins.confirm, _C),
    "confirm.sent": Operation(optins.sent, _C),
    "consent.withdraw": Operation(objections.withdraw, _C),
    "consent.erase": Operation(objections.erase, _C),
    "consent.show": Operation(consents.show),
    "consent.proof": Operation(proofs.proof, writes=True, audited=True),
    "consent.verify": Operation(consents.check_chain),
    "consent.page": Operation(pages.consents),
    "suppression.page": Operation(pages.suppressions),
    "consent.export": Operation(consents.export, writes=True, audited=True),
    "consent.records": Operation(exports.records, writes=True, audited=True),
    "consent.heads": Operation(consents.heads),
    "suppression.add": Operation(objections.add, _C),
    "suppression.list": Operation(objections.list_all),
    "suppression.remove": Operation(objections.remove, _C),
    "optout": Operation(objections.opt_out, _C),
    "mydata.ask": Operation(mydata.ask, writes=True, audited=True),
    "mydata.prove": Operation(mydata.prove, writes=True, audited=True),
    "mydata.held": Operation(holdings.held),
    "mydata.change": Operation(mydata.change, _C),
    "mydata.erase": Operation(mydata.erase, _C),
    "mydata.move": Operation(moves.ask, writes=True, audited=True),
    "mydata.moved": Operation(moves.confirm, _C),
    "hold.decided": Operation(holds.decided, writes=True, audited=True),
    "refusals.add": Operation(refusals.add, writes=True),
    "refusal.first": Operation(refusals.first, writes=True),
    "refusal.unsaid": Operation(refusals.unsaid, writes=True),
    "digest.due": Operation(refusals.due),
    "digest.claim": Operation(refusals.claim, writes=True),
    "digest.told": Operation(refusals.told, writes=True),
    "webhook.add": Operation(webhooks.add, writes=True, audited=True),
    "webhook.list": Operation(webhooks.list_all),
    "webhook.remove": Operation(webhooks.remove, writes=True, audited=True),
    "webhook.rotate": Operation(webhooks.rotate, writes=True, audited=True),
    "webhook.dead": Operation(webhooks.dead),
    "webhook.retry": Operation(webhooks.retry, writes=True, audited=True),
    "webhook.test": Operation(webhooks.test, writes=True, audited=True),
    "webhook.lines": Operation(hook_events.lines),
    "webhook.heads": Operation(hook_events.heads),
    "webhook.figures": Operation(hook_events.figures),
    "webhook.settle": Operation(hook_events.settle, writes=True),
    "incident.open": Operation(incidents.open_by_hand, writes=True, audited=True),
    "incident.list": Operation(incidents.list_all),
    "incident.show": Operation(incidents.show, writes=True, audited=True),
    "incident.note": Operation(incidents.note, writes=True, audited=True),
    "incident.assess": Operation(incidents.assess, writes=True, audited=True),
    "incident.notify": Operation(incidents.notify, writes=True, audited=True),
    "incident.close": Operation(incidents.close, writes=True, audited=True),
    "incident.export": Operation(incidents.export, writes=True, audited=True),
    "incident.seen": Operation(incident_watch.seen, writes=True),
    "incident.figures": Operation(incident_watch.figures),
    "incident.exports": Operation(incident_watch.exports),
    "deletion.ask": Operation(deletions.ask, writes=True, audited=True),
    "deletion.letters": Operation(deletions.letters),
    "deletion.mailed": Operation(deletions.mailed, writes=True),
    "deletion.look": Operation(deletions.look),
    "deletion.confirm": Operation(deletions.confirm, writes=True),
    "once.begin": Operation(once.begin, writes=True),
    "once.finish": Operation(once.finish, writes=True),
    "once.drop": Operation(once.drop, writes=True),
    "retention.run": Operation(retention.run, _C),
    "restore.released": Operation(retention.note_release, _C),
}

READ_ONLY = frozenset(name for name, operation in OPERATIONS.items() if not (operation.slots or operation.writes))
"""Operations that a reader may answer without the owner: see `relay.owner.Reader`."""
