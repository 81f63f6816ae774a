"""`zegel policy`: what is judged, how strictly, and a way to try one policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import print_json, say, show_record, show_rows
from relay.cli.tenants import Name
from relay.cli.trouble import NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.mail.envelope import Tenant
    from relay.policy.catalogue import Catalogue
    from relay.settings.model import Settings

app = group("What mail is judged by, and how strictly for each tenant and stream.")

StreamName = Literal["marketing", "transactional", "personal"]
PolicyName = Annotated[
    str, typer.Argument(metavar="POLICY", help="For instance consent; see `policy list`.", show_default=False)
]


@command(app, "list", example="zegel policy list shop --settings")
def list_all(
    frame: Frame,
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="As it holds for this tenant.")] = None,
    *,
    stream: Annotated[StreamName | None, typer.Option(help="Only this stream.")] = None,
    settings: Annotated[bool, typer.Option("--settings", help="Every setting with its value, too.")] = False,
) -> None:
    """Show the policies in their order with the mode in force for each stream, and their settings."""
    rows = in_force(frame, tenant, stream)
    if frame.as_json:
        print_json(rows)
        return
    columns = (
        ("policy", "policy"),
        ("stream", "stream"),
        ("mode", "mode"),
        ("down", "when a store is down"),
        ("about", "about"),
    )
    shown = [{**row, "down": _words(row["on_unavailable"])} for row in rows]
    show_rows(frame, shown, columns, empty="No policies are in the order: see [policies.pipeline].")
    if settings:
        told: set[str] = set()
        for row in rows:
            for name, entry in row["settings"].items():
                line = f"  {row['policy']}.{name} = {entry['value']}"
                key = f"{line} {row['stream'] if entry['value'] != entry['default'] else ''}"
                if key not in told:
                    told.add(key)
                    changed = (
                        ""
                        if entry["value"] == entry["default"]
                        else f"   (default {entry['default']}, {row['stream']})"
                    )
                    say(f"{line}{changed}", f"      {entry['about']}")


def _words(choice: object) -> str:
    """A choice per class for people: the classes behind each word."""
    if not isinstance(choice, dict):
        return str(choice or "")
    return "; ".join(
        f"{word}: {', '.join(k for k, v in choice.items() if v == word)}" for word in dict.fromkeys(choice.values())
    )


def in_force(frame: Frame, tenant_name: str | None, stream_name: str | None) -> list[dict[str, Any]]:
    """One row for each policy and stream: mode, settings with their defaults, first sentence of its text."""
    from relay.mail.envelope import Stream, Tenant
    from relay.policy.catalogue import Catalogue

    settings = frame.settings()
    catalogue = Catalogue.load(settings.policies)
    tenant = Tenant(0, "") if tenant_name is None else _tenant(settings, tenant_name)
    streams = [Stream(stream_name)] if stream_name else list(Stream)
    return [row for policy in catalogue.policies for row in _rows(catalogue, tenant, streams, policy)]


def _rows(catalogue: Catalogue, tenant: Tenant, streams: list[Any], policy: Any) -> list[dict[str, Any]]:
    from relay.policy.options import declared

    rows = []
    for stream in streams:
        plan = catalogue.plan(tenant, stream)
        step = next((step for step in (*plan.shape, *plan.judge, *plan.admit) if step.policy is policy), None)
        values = {
            option.name: {
                "value": _value(getattr(step.settings, option.name)) if step else _value(option.default),
                "default": _value(option.default),
                "about": option.doc,
            }
            for option in declared(policy.settings_type)
        }
        rows.append({
            "policy": policy.name,
            "stream": stream.value,
            "mode": step.mode if step else "off",
            "on_unavailable": _value(step.on_unavailable) if step and policy.needs else None,
            "about": policy.doc.partition("\n\n")[0].replace("\n", " "),
            "settings": values,
        })  # fmt: skip
    return rows


def _value(value: Any) -> Any:
    """A setting as TOML has it: one word where all streams or classes have the same."""
    fields = getattr(value, "_asdict", None)
    if fields is None:
        return list(value) if isinstance(value, tuple) else value
    words = fields()
    return next(iter(words.values())) if len(set(words.values())) == 1 else words


def _tenant(settings: Settings, name: str) -> Tenant:
    from relay.cli.client import as_folder_owner, require_folder
    from relay.directory import Directory
    from relay.keyring import Keyring

    require_folder(settings.server.data_dir)
    with as_folder_owner(settings.server.data_dir):
        keyring = Keyring.open(settings.server.keys_dir, create=False)
        found = Directory.load(settings.database_path, keyring).tenant(name)
    if found is None:
        raise Trouble(NO, "there is no tenant of that name: see `zegel tenant list`")
    return found


@command(app, "mode", example="zegel policy mode shop unsubscribe enforce --stream marketing --set missing=inject")
def mode(
    frame: Frame,
    tenant: Name,
    policy: PolicyName,
    mode: Annotated[
        Literal["off", "observe", "enforce", "default"] | None,
        typer.Argument(metavar="[MODE]", help="off, observe, enforce or default: as the config says."),
    ] = None,
    *,
    stream: Annotated[StreamName | None, typer.Option(help="Only in this stream.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in TOML; replaces all set before."),
    ] = None,
) -> None:
    """Set how strictly a policy works for a tenant, or its settings there; takes effect within 2 seconds."""
    if mode is None and set_ is None:
        raise Trouble(WRONG_USE, "nothing to set: name a mode, or --set KEY=VALUE")
    table = None if set_ is None else read_settings(set_)
    _check(frame.settings(), policy, table)
    done = frame.call("policy.mode", tenant=tenant, policy=policy, mode=mode, stream=stream, settings=table)
    show_record(frame, done, title="Set")


def read_settings(pairs: list[str]) -> dict[str, object]:
    """`["missing=inject", "act_from=12"]` as a table; a value that is no TOML is text. "" clears: {}. Raises Trouble."""
    from relay.settings.toml import NotToml, parse_toml

    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not pair:
            continue
        if not equals or not key.strip():
            raise Trouble(WRONG_USE, f"--set {pair}: write KEY=VALUE")
        try:
            found[key.strip()] = parse_toml(f"value = {text}")["value"]
        except NotToml:
            found[key.strip()] = text.strip()
    return found


def _check(settings: Settings, policy: str, table: dict[str, object] | None) -> None:
    """Raises Trouble for a policy or a setting that does not exist, before it is stored where every mail would meet it."""
    from relay.policy.catalogue import Catalogue

    problems = Catalogue.load(settings.policies).check(policy, table or {})
    if problems:
        raise Trouble(WRONG_USE, "\n".join(str(problem) for problem in problems))


@command(app, "test", example="zegel policy test consent cases.toml")
def test(
    frame: Frame,
    policy: PolicyName,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A decision table (.toml) or a mail.", show_default=False)
    ],
    *,
    credential: Annotated[str, typer.Option(metavar="NAME", help="For a mail: whose it is.")] = "",
    mail_from: Annotated[str, typer.Option(metavar="ADDRESS", help="For a mail: its envelope sender.")] = "",
    rcpt_to: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="For a mail: repeat for each recipient.")
    ] = None,
) -> None:
    """Try one policy: on a decision table of your own, without any store; or on a mail, as `zegel explain` would see it.

    Exits 1 where a row is not kept, or where the policy would stop the mail.
    """
    if file.suffix == ".toml":
        _test_table(frame, policy, file)
        return
    if not credential or not rcpt_to:
        raise Trouble(
            WRONG_USE, "a mail needs --credential and --rcpt-to (and --mail-from); a decision table ends in .toml"
        )
    from relay.cli.dryrun import explain_mail
    from relay.cli.explain import Asked, read_mail

    verdict = explain_mail(frame.settings(), Asked(credential, mail_from, tuple(rcpt_to)), read_mail(file))
    entry = next((entry for entry in verdict["policies"] if entry["policy"] == policy), None)
    if entry is None:
        raise Trouble(NO, f"the policy {policy} had no say: it is off, or another one refused the mail before")
    show_record(frame, entry)
    if entry["action"] in ("reject", "defer"):
        raise typer.Exit(NO)


def _test_table(frame: Frame, policy: str, file: Path) -> None:
    from relay.cli.decisions import run_table

    results = run_table(policy, file)
    failed = [result for result in results if not result["kept"]]
    columns = (("kept", "kept"), ("why", "row"), ("found", "found"), ("expected", "expected"))
    if frame.as_json:
        print_json(results)
    elif failed:
        show_rows(frame, failed, columns, empty="")
    if not frame.as_json:
        say(f"{len(results) - len(failed)} of {len(results)} rows kept.")
    if failed:
        raise typer.Exit(NO)
