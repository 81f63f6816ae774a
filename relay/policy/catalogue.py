"""The policies named in the config, loaded, checked against the form of a policy, and put together for a sender.

A policy is a module `policies.<name>` with a docstring, NEEDS, STAGE, Settings and `decide(mail, facts, settings)`; it may
also have AT_RCPT, MODE (a word, or one for each stream), ON_UNAVAILABLE, STAND_IN, `asks(mail, settings)` and
`decide_sender(mail, settings)`. Anything else that is public in it stops the start: a surprise in a policy is a defect.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple, TypeVar

from relay.mail.envelope import Stream, Submission, Tenant
from relay.policy.facts import Fact, Facts
from relay.policy.options import PerClass, PerStream, Problem, declared, fill, read_choice
from relay.policy.verdict import Stage, Verdict

ORDER = (
    "classification",
    "identity",
    "content",
    "suppression",
    "consent",
    "unsubscribe",
    "leaks",
    "recipients",
    "reputation",
    "throttle",
)
"""Default order; rulebook section 1."""

MODES = ("off", "observe", "enforce")
ON_UNAVAILABLE = ("defer", "hold", "accept")
PARTIAL = ("atomic", "partial")
PIPELINE_KEY = "pipeline"  # the table [policies.pipeline]: order and partial

_PIPE_3 = PerClass(commercial="defer", bulk="defer", transactional="accept", personal="accept")
_NAME = re.compile(r"[a-z][a-z_]*")
_PUBLIC = frozenset(("decide", "decide_sender", "asks", "Settings"))
_STAGES = tuple(Stage)

P = TypeVar("P", PerStream, PerClass)
Decide = Callable[[Submission, Facts, object], Verdict]


class CatalogueError(Exception):
    """The policies cannot be used as configured; `problems` holds everything that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class Policy(NamedTuple):
    """One policy module, checked. `asks` narrows NEEDS to what one mail needs; `stand_in` serves where a fact is missing."""

    name: str
    doc: str
    stage: Stage
    needs: frozenset[Fact]
    settings_type: type
    decide: Decide
    at_rcpt: bool
    mode: PerStream
    on_unavailable: PerClass
    asks: Callable[[Submission, object], Sequence[Fact]] | None
    decide_sender: Callable[[Submission, object], Verdict] | None
    stand_in: Mapping[Fact, object]


class Step(NamedTuple):
    """One policy as it holds for one tenant and stream. `broken`: the tenant's own settings cannot be read."""

    policy: Policy
    mode: str  # observe | enforce
    settings: object
    on_unavailable: PerClass
    partial: bool
    broken: bool


class Plan(NamedTuple):
    """The steps of one tenant and stream, in order; those that are off are not in it."""

    shape: tuple[Step, ...]
    judge: tuple[Step, ...]
    admit: tuple[Step, ...]
    rcpt: tuple[Step, ...]  # the steps of judge that answer at RCPT
    sender: tuple[Step, ...]  # the steps of judge that answer at MAIL
    named: Mapping[str, Step]  # each by the name of its policy

    def of(self, stage: Stage) -> tuple[Step, ...]:
        return (self.shape, self.judge, self.admit)[_STAGES.index(stage)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Base:
    """What the config says of one policy, before any tenant."""

    policy: Policy
    settings: object
    mode: PerStream
    on_unavailable: PerClass
    partial: PerStream


class Catalogue:
    """The policies of this gateway in their order, with the config's settings."""

    def __init__(self, bases: Sequence[_Base]) -> None:
        self._bases = tuple(bases)
        self._plain = {stream: self._build(None, stream) for stream in Stream}
        self._plans: dict[tuple[int, Stream], tuple[Tenant, Plan]] = {}

    @property
    def policies(self) -> tuple[Policy, ...]:
        return tuple(base.policy for base in self._bases)

    @staticmethod
    def load(tables: Mapping[str, object], *, package: str = "policies") -> Catalogue:
        """The catalogue for the config's [policies] table. Raises CatalogueError with every problem at once."""
        problems: list[Problem] = []
        general = tables.get(PIPELINE_KEY, {})
        if not isinstance(general, Mapping):
            raise CatalogueError([_no_table(f"policies.{PIPELINE_KEY}")])
        order = _order(general.get("order", ORDER), problems)
        problems += [
            Problem(f"policies.{PIPELINE_KEY}.{key}", "unknown key", "Known keys: order, partial")
            for key in general
            if key not in ("order", "partial")
        ]
        partial = _choice(PerStream.all("atomic"), general, "partial", PARTIAL, f"policies.{PIPELINE_KEY}", problems)
        bases = []
        for name in order:
            policy = _policy(name, package, problems)
            if policy is not None:
                bases.append(_base(policy, tables.get(name, {}), partial, problems))
        for name in tables:
            if name != PIPELINE_KEY and name not in order:
                known = ", ".join(order)
                problems.append(Problem(f"policies.{name}", "no such policy is in the order", f"Policies: {known}"))
        stages = [_STAGES.index(base.policy.stage) for base in bases]
        if stages != sorted(stages):
            remedy = "Write those of shape first, then judge, then admit"
            problems.append(Problem(f"policies.{PIPELINE_KEY}.order", "the stages are out of order", remedy))
        if problems:
            raise CatalogueError(problems)
        return Catalogue(bases)

    def plan(self, tenant: Tenant, stream: Stream) -> Plan:
        """The steps for a tenant and stream; kept until the directory brings a new Tenant."""
        if not tenant.modes and not tenant.settings:
            return self._plain[stream]
        key = (tenant.id, stream)
        kept = self._plans.get(key)
        if kept is not None and kept[0] is tenant:
            return kept[1]
        plan = self._build(tenant, stream)
        self._plans[key] = (tenant, plan)
        return plan

    def check(self, name: str, table: Mapping[str, object]) -> list[Problem]:
        """What is wrong with a tenant's own settings for a policy; [] when they can be used."""
        for base in self._bases:
            if base.policy.name == name:
                problems: list[Problem] = []
                _over(base, table, name, problems)
                return problems
        names = ", ".join(base.policy.name for base in self._bases)
        return [Problem(name, "no such policy", f"Policies: {names}")]

    def _build(self, tenant: Tenant | None, stream: Stream) -> Plan:
        steps = [step for base in self._bases if (step := _step(base, tenant, stream)) is not None]
        by_stage = {stage: tuple(step for step in steps if step.policy.stage is stage) for stage in Stage}
        judge = by_stage[Stage.JUDGE]
        return Plan(
            by_stage[Stage.SHAPE],
            judge,
            by_stage[Stage.ADMIT],
            tuple(step for step in judge if step.policy.at_rcpt),
            tuple(step for step in judge if step.policy.decide_sender is not None),
            {step.policy.name: step for step in steps},
        )


def _step(base: _Base, tenant: Tenant | None, stream: Stream) -> Step | None:
    name, mode, problems = base.policy.name, base.mode.of(stream), list[Problem]()
    if tenant is not None:
        for key in (name, f"{name}/{stream.value}"):
            base = _over(base, tenant.settings.get(key, {}), key, problems)
            mode = tenant.modes.get(key, mode)
    if mode not in MODES:
        problems.append(Problem(name, f"{mode!r} is no mode", f"Write one of: {', '.join(MODES)}"))
    if mode == "off":
        return None
    partial = base.partial.of(stream) == "partial"
    return Step(base.policy, mode, base.settings, base.on_unavailable, partial, bool(problems))


def _base(policy: Policy, table: object, partial: PerStream, problems: list[Problem]) -> _Base:
    base = _Base(policy, policy.settings_type(), policy.mode, policy.on_unavailable, partial)
    if not isinstance(table, Mapping):
        problems.append(_no_table(f"policies.{policy.name}"))
        return base
    where = f"policies.{policy.name}"
    mode = _choice(base.mode, table, "mode", MODES, where, problems)
    rest = {key: value for key, value in table.items() if key != "mode"}
    return dataclasses.replace(_over(base, rest, where, problems), mode=mode)


def _over(base: _Base, table: Mapping[str, object], where: str, problems: list[Problem]) -> _Base:
    """`base` with a table of settings over it; `mode` is no setting of a tenant's table (Tenant.modes has it)."""
    if not table:
        return base
    own = {key: value for key, value in table.items() if key not in ("on_unavailable", "partial")}
    settings, found = fill(base.settings, own, where)
    problems += found
    return dataclasses.replace(
        base,
        settings=settings,
        on_unavailable=_choice(base.on_unavailable, table, "on_unavailable", ON_UNAVAILABLE, where, problems),
        partial=_choice(base.partial, table, "partial", PARTIAL, where, problems),
    )


def _choice(
    default: P, table: Mapping[str, object], key: str, choices: tuple[str, ...], where: str, problems: list[Problem]
) -> P:
    if key not in table:
        return default
    read = read_choice(default, table[key], choices, f"{where}.{key}")
    if isinstance(read, Problem):
        problems.append(read)
        return default
    return read


def _order(value: object, problems: list[Problem]) -> tuple[str, ...]:
    key = f"policies.{PIPELINE_KEY}.order"
    if not isinstance(value, list | tuple) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in value
    ):
        problems.append(Problem(key, "not a list of names of policies", f"Write for instance {list(ORDER)}"))
        return ORDER
    if len(set(value)) != len(value):
        problems.append(Problem(key, "a policy is named twice", "Write each name once"))
    return tuple(dict.fromkeys(value))


def _no_table(key: str) -> Problem:
    return Problem(key, "not a table", f"Write [{key}] and the settings below it")


def _policy(name: str, package: str, problems: list[Problem]) -> Policy | None:
    """The policy `name`, or None with the problem noted."""
    key = f"{package}.{name}"
    try:
        module = importlib.import_module(key)
    except ImportError as error:
        remedy = f"Add {package}/{name}.py or take the name out of the order"
        problems.append(Problem(key, f"cannot be imported: {error}", remedy))
        return None
    wrong = _wrong_form(module)
    if wrong:
        problems.append(Problem(key, wrong, "See docs/adding-a-policy.md"))
        return None
    return Policy(
        name,
        inspect.cleandoc(module.__doc__ or ""),
        module.STAGE,
        frozenset(module.NEEDS),
        module.Settings,
        module.decide,
        getattr(module, "AT_RCPT", False),
        _per_stream(getattr(module, "MODE", "enforce")),
        PerClass.all(module.ON_UNAVAILABLE) if hasattr(module, "ON_UNAVAILABLE") else _PIPE_3,
        getattr(module, "asks", None),
        getattr(module, "decide_sender", None),
        getattr(module, "STAND_IN", {}),
    )


def _per_stream(mode: object) -> PerStream:
    return mode if isinstance(mode, PerStream) else PerStream.all(str(mode))


def _wrong_form(module: ModuleType) -> str:
    """What the module lacks to be a policy, or has too much; "" when it is one."""
    if not (module.__doc__ or "").strip():
        return "it has no docstring"
    needs = getattr(module, "NEEDS", None)
    if not isinstance(needs, tuple) or not all(isinstance(fact, Fact) for fact in needs):
        return "NEEDS is not a tuple of Fact"
    if not isinstance(getattr(module, "STAGE", None), Stage):
        return "STAGE is not a Stage"
    for name, count, required in (("decide", 3, True), ("asks", 2, False), ("decide_sender", 2, False)):
        wrong = _wrong_function(getattr(module, name, None), name, count) if required or hasattr(module, name) else ""
        if wrong:
            return wrong
    wrong = _wrong_settings(getattr(module, "Settings", None))
    if wrong:
        return wrong
    if not isinstance(getattr(module, "AT_RCPT", False), bool):
        return "AT_RCPT is not a boolean"
    if not set(_per_stream(getattr(module, "MODE", "enforce"))) <= set(MODES):
        return "MODE is no mode"
    if getattr(module, "ON_UNAVAILABLE", "defer") not in ON_UNAVAILABLE:
        return "ON_UNAVAILABLE is no choice"
    if not set(getattr(module, "STAND_IN", {})) <= set(needs):
        return "STAND_IN names a fact that NEEDS does not"
    for name, value in vars(module).items():
        own = inspect.isroutine(value) or inspect.isclass(value)
        if own and not name.startswith("_") and name not in _PUBLIC and value.__module__ == module.__name__:
            return f"{name} is public and no part of a policy"
    return ""


def _wrong_function(function: object, name: str, count: int) -> str:
    if not inspect.isfunction(function):
        return f"it has no function {name}"
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        return f"{name} is not a plain function"
    return "" if len(inspect.signature(function).parameters) == count else f"{name} does not take {count} arguments"


def _wrong_settings(settings_type: object) -> str:
    if not isinstance(settings_type, type) or not dataclasses.is_dataclass(settings_type):
        return "Settings is not a dataclass"
    if not settings_type.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # every dataclass has it
        return "Settings is not frozen"
    try:
        declared(settings_type)
    except TypeError as error:
        return f"Settings: {error}"
    return ""
