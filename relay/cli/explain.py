"""`zegel explain`: the verdict that a mail would get now, by the road of the live gateway; nothing is sent, kept or counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from relay.cli.frame import Frame, command
from relay.cli.trouble import NO, WRONG_USE, Trouble

MailFile = Annotated[Path, typer.Argument(metavar="FILE", help="A mail with its headers; - reads standard input.")]
Credential = Annotated[
    str, typer.Option(metavar="NAME", help="Whose mail it is; name+purpose chooses a list.", show_default=False)
]
MailFrom = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Envelope sender; empty: the null sender.", show_default=False)
]
RcptTo = Annotated[list[str], typer.Option(metavar="ADDRESS", help="Repeat for each recipient.", show_default=False)]
ClientIp = Annotated[str, typer.Option(metavar="ADDRESS", help="As if it came from there.")]


def add_to(app: typer.Typer) -> None:
    example = (
        "zegel explain mail.eml --credential shop-newsletter --mail-from news@shop.example --rcpt-to ann@example.net"
    )
    command(app, "explain", example=example)(explain)


def explain(
    frame: Frame,
    file: MailFile,
    *,
    credential: Credential,
    mail_from: MailFrom,
    rcpt_to: RcptTo,
    client_ip: ClientIp = "127.0.0.1",
) -> None:
    """Tell what would become of a mail, and which policy says so. Nothing is sent. Exits 1 where it would not be taken.

    SMTPUTF8 counts as announced where an address or the head is UTF-8, as a client would do it. Lines that end in LF alone are
    read as lines of a file.
    """
    from relay.cli.dryrun import explain_mail
    from relay.cli.output import print_json
    from relay.cli.verdicts import show_verdict

    asked = Asked(credential, mail_from, tuple(rcpt_to), client_ip)
    verdict = explain_mail(frame.settings(), asked, read_mail(file))
    if frame.as_json:
        print_json(verdict)
    else:
        show_verdict(verdict)
    if verdict["action"] in ("reject", "defer"):
        raise typer.Exit(NO)


class Asked(NamedTuple):
    """Who would send it, from where, to whom."""

    credential: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    client_ip: str = "127.0.0.1"


def read_mail(file: Path) -> bytes:
    """The mail as it would arrive: lines end in CRLF, as every client sends them. Raises Trouble."""
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Trouble(
            WRONG_USE, f"{file} cannot be read ({error.strerror}): name a mail file, or - for standard input"
        ) from None
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
