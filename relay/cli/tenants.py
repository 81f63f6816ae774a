"""`zegel tenant`: who sends through this gateway."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.snippet import form_for
from relay.cli.trouble import WRONG_USE, Trouble
from relay.mail.face import MAX_LOGO_BYTES

app = group("Who sends through this gateway.")

Name = Annotated[str, typer.Argument(metavar="TENANT", help="Name of the tenant.", show_default=False)]


@dataclasses.dataclass(frozen=True, slots=True)
class Properties:
    """What `add` and `set` take."""

    legal_name: Annotated[str | None, typer.Option(help="Legal entity, as in the trade register.")] = None
    kind: Annotated[
        Literal["company", "charity", "government"] | None, typer.Option(help="Decides which soft opt-ins count.")
    ] = None
    category: Annotated[str | None, typer.Option(help="What it sells or does, for soft opt-in (CONSENT-5).")] = None
    sensitive_audience: Annotated[
        bool | None, typer.Option(help="Its lists say something about health, faith, money and the like (CC-4).")
    ] = None
    language: Annotated[Literal["nl", "en"] | None, typer.Option(help="Language of its replies and notices.")] = None
    contact: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where the gateway writes to.")] = None
    refusal_letters: Annotated[
        bool | None, typer.Option(help="Write to its contact what is refused and held (OPS-6).")
    ] = None
    postal_address: Annotated[str | None, typer.Option(metavar="TEXT", help="Postal address for the imprint.")] = None

    def given(self) -> dict[str, object]:
        return {
            field.name: value for field in dataclasses.fields(self) if (value := getattr(self, field.name)) is not None
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Permissions:
    """What only the operator may allow; `set` alone takes them."""

    allow_soft_optin: Annotated[
        bool | None, typer.Option(help="May mail customers on their sale; on for a new tenant (CONSENT-5).")
    ] = None
    allow_third_party: Annotated[
        bool | None, typer.Option(help="May record and mail bought addresses (CONSENT-7).")
    ] = None
    allow_published: Annotated[
        bool | None, typer.Option(help="May record and mail addresses published for advertising (CONSENT-9).")
    ] = None
    allow_non_eea: Annotated[
        bool | None, typer.Option(help="May record and mail companies outside the EEA (CONSENT-9).")
    ] = None
    free_tier_reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why a free account counts as a sale (CONSENT-6).")
    ] = None
    german_proof: Annotated[bool | None, typer.Option(help="Web forms need address and browser as proof.")] = None

    def given(self) -> dict[str, object]:
        return {
            field.name: value for field in dataclasses.fields(self) if (value := getattr(self, field.name)) is not None
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What the pages of its recipients look like, and which of its own sites may speak to them; `set` alone takes them."""

    colour: Annotated[
        str | None, typer.Option(metavar="#RRGGBB", help='Colour of buttons on its pages; "" ends it.')
    ] = None
    text_colour: Annotated[
        str | None, typer.Option(metavar="#RRGGBB", help="Text on that colour; contrast at least 4.5:1.")
    ] = None
    logo: Annotated[
        str | None, typer.Option(metavar="FILE", help='PNG or JPEG on its pages, at most 48 kB; "" takes it away.')
    ] = None
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help='Web site whose script may post to /optin; repeat for more, "" for none.'),
    ] = None

    def given(self) -> dict[str, object]:
        found: dict[str, object] = {
            "colour": self.colour,
            "text_colour": self.text_colour,
            "origins": self.origin or None,
        }
        if self.logo is not None:
            found["logo"] = base64.b64encode(_read(self.logo)).decode() if self.logo else ""
        return {name: value for name, value in found.items() if value is not None}


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_LOGO_BYTES + 1)
    except OSError as error:
        raise Trouble(WRONG_USE, f"{name} cannot be read: {error.strerror}") from None


@command(app, "add", example='zegel tenant add shop --legal-name "Shop B.V." --language nl')
def add(frame: Frame, tenant: Name, properties: Properties) -> None:
    """Make a tenant."""
    show_record(frame, frame.call("tenant.add", name=tenant, **properties.given()), title="Tenant made")


@command(app, "list", example="zegel tenant list")
def list_all(
    frame: Frame,
    *,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that left, of which the proof is kept.")] = False,
) -> None:
    """Show every tenant."""
    if deleted:
        left = (("name", "tenant"), ("deleted_at", "deleted"), ("emptied_at", "gone"))
        show_rows(frame, frame.call("tenant.list", deleted=True), left, empty="No tenant was deleted.")
        return
    columns = (
        ("name", "tenant"),
        ("legal_name", "legal name"),
        ("kind", "kind"),
        ("language", "language"),
        ("suspended", "suspended"),
    )
    show_rows(frame, frame.call("tenant.list"), columns, empty="No tenants yet: make one with `zegel tenant add NAME`.")


@command(app, "show", example="zegel tenant show shop")
def show(frame: Frame, tenant: Name) -> None:
    """Show one tenant with all its properties."""
    show_record(frame, frame.call("tenant.show", name=tenant), skip=("id",))


@command(app, "set", example="zegel tenant set shop --contact post@shop.example --sensitive-audience")
def change(frame: Frame, tenant: Name, properties: Properties, permissions: Permissions, look: Look) -> None:
    """Change properties of a tenant; what is not named stays."""
    values = {**properties.given(), **permissions.given(), **look.given()}
    if not values:
        raise Trouble(WRONG_USE, "nothing to set: name at least one property, see `zegel tenant set --help`")
    show_record(frame, frame.call("tenant.set", name=tenant, **values), skip=("id",))


Why = Annotated[str, typer.Option("--reason", help="Why; the contact reads it when it stops, and the audit keeps it.")]


@command(app, "suspend", example='zegel tenant suspend shop --reason "spam to bought addresses"')
def suspend(frame: Frame, tenant: Name, reason: Why = "") -> None:
    """Stop a tenant: nothing of it is accepted or sent until `resume`; its contact is told why."""
    show_record(frame, frame.call("tenant.suspend", name=tenant, reason=reason), skip=("id",))


@command(app, "resume", example='zegel tenant resume shop --reason "list was cleaned"')
def resume(frame: Frame, tenant: Name, reason: Why = "") -> None:
    """Let a suspended tenant send again; what was frozen leaves."""
    show_record(frame, frame.call("tenant.resume", name=tenant, reason=reason), skip=("id",))


@command(app, "snippet", example="zegel tenant snippet shop --purpose newsletter > form.html")
def snippet(
    frame: Frame,
    tenant: Name,
    purpose: Annotated[str, typer.Option(metavar="NAME", help="A form to sign up for this list instead.")] = "",
    language: Annotated[Literal["nl", "en"] | None, typer.Option(help="Language of the form and its pages.")] = None,
) -> None:
    """Print a form for the tenant's own web site: to see one's own data, or to sign up. It needs no script."""
    with frame.link() as link:
        tongue = language or str(link.call("tenant.show", {"name": tenant})["language"])
        found = link.call("tenant.keys", {"name": tenant} | ({"purpose": purpose} if purpose else {}))
    made = form_for(frame.settings().web.public_url, found, tongue)
    if frame.as_json:
        show_record(frame, made)
    else:
        typer.echo(made["html"], nl=False)
