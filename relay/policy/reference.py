"""The settings of every policy, for people: config/zegel.toml is written with them.

`python -m relay.policy.reference` prints that file; a test keeps it equal to the code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from relay.mail.envelope import Stream, Tenant
from relay.policy.catalogue import MODES, ON_UNAVAILABLE, ORDER, PARTIAL, PIPELINE_KEY, Catalogue, Policy
from relay.policy.options import PerClass, PerStream, declared
from relay.settings.generate import PolicyKey, render

MODE = f"{' | '.join(MODES)}; or a table per stream."
ON_DOWN = f"What happens while the stores it asks are down: {' | '.join(ON_UNAVAILABLE)} (PIPE-3)."
PARTLY = f"Whether one refused recipient refuses the mail: {' | '.join(PARTIAL)}; or a table per stream (PIPE-1)."


def config_text() -> str:
    """config/zegel.toml as it must be: every key of the gateway and of the policies that come with it."""
    return render(policy_keys())


def policy_keys() -> Iterator[PolicyKey]:
    """Every key of every policy of the default order, with its default and explanation."""
    yield PolicyKey(PIPELINE_KEY, "order", ORDER, "The policies in use; those that shape come first, throttle last.")
    yield PolicyKey(PIPELINE_KEY, "partial", "atomic", PARTLY)
    plan = Catalogue.load({}).plan(Tenant(0, ""), Stream.PERSONAL)
    for policy, _, _, on_unavailable, *_ in (*plan.shape, *plan.judge, *plan.admit):
        yield PolicyKey(policy.name, "mode", _mode(policy), MODE)
        if policy.needs:
            yield PolicyKey(policy.name, "on_unavailable", _table(on_unavailable), ON_DOWN)
        yield from _own(policy)


def _mode(policy: Policy) -> object:
    """A word where it is the same on every stream."""
    return policy.mode.personal if len(set(policy.mode)) == 1 else _table(policy.mode)


def _own(policy: Policy) -> Iterator[PolicyKey]:
    for option in declared(policy.settings_type):
        choices = f" {' | '.join(option.choices)}." if option.choices else ""
        yield PolicyKey(policy.name, option.name, _table(option.default), option.doc + choices)


def _table(value: object) -> object:
    return value._asdict() if isinstance(value, PerStream | PerClass) else value


if __name__ == "__main__":
    sys.stdout.write(config_text())
