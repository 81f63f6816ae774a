"""Real mail programs, each told to send one mail with TLS and a login. `SENDERS` names them."""

from __future__ import annotations

import json
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.clients.gateway import Gateway, Login
from tests.clients.installed import HERE, need, need_file, need_perl, npm_modules, run

SUBJECT = "Groeten uit Zürich"
TEXT = "Déjà vu\n.\n..two dots\nthe end"


class Task(NamedTuple):
    """What is sent how. `implicit`: TLS from the first octet, or else STARTTLS. `folder` is the program's own."""

    gateway: Gateway
    login: Login
    implicit: bool
    sender: str
    recipient: str
    folder: Path
    cache: Path

    @property
    def port(self) -> int:
        return self.gateway.submissions if self.implicit else self.gateway.submission

    @property
    def authority(self) -> str:
        return str(self.gateway.certificates.authority)

    def mail(self) -> EmailMessage:
        """The mail, for programs that do not write one themselves."""
        made = EmailMessage()
        made["From"], made["To"], made["Subject"] = self.sender, self.recipient, SUBJECT
        made.set_content(TEXT)
        return made

    def file(self) -> bytes:
        """The same as a file of this machine, with its line ends."""
        return self.mail().as_bytes()

    def as_json(self, module: str) -> str:
        """The task for send.cjs and send.php."""
        values = {
            "module": module,
            "port": self.port,
            "implicit": self.implicit,
            "authority": self.authority,
            "username": self.login.username,
            "password": self.login.password,
            "sender": self.sender,
            "recipient": self.recipient,
            "subject": SUBJECT,
            "text": TEXT,
        }
        return json.dumps(values)


def swaks(task: Task, mechanism: str = "PLAIN") -> None:
    command = [need("swaks", "swaks"), "--server", "localhost", "--port", str(task.port), "--tls-verify"]
    command += ["--tls-on-connect" if task.implicit else "--tls", "--tls-ca-path", task.authority]
    command += ["--auth", mechanism, "--auth-user", task.login.username, "--auth-password", task.login.password]
    command += ["--from", task.sender, "--to", task.recipient, "--data", "-"]
    run(command, text=task.file(), folder=task.folder)


def swaks_login(task: Task) -> None:
    swaks(task, "LOGIN")


def msmtp(task: Task) -> None:
    config = task.folder / "msmtprc"
    config.touch(0o600)
    config.write_text(
        f"account default\nhost localhost\nport {task.port}\ntls on\ntls_starttls {'off' if task.implicit else 'on'}\n"
        f"tls_trust_file {task.authority}\nauth plain\nuser {task.login.username}\npassword {task.login.password}\n"
        f"from {task.sender}\n"
    )
    command = [need("msmtp", "msmtp"), f"--file={config}", "--", task.recipient]
    run(command, text=task.file(), folder=task.folder)


def curl(task: Task) -> None:
    scheme = "smtps" if task.implicit else "smtp"
    command = [need("curl", "curl"), "--silent", "--show-error", "--ssl-reqd", "--cacert", task.authority, "--crlf"]
    command += ["--url", f"{scheme}://localhost:{task.port}/client.example", "--noproxy", "*"]
    command += ["--user", f"{task.login.username}:{task.login.password}"]
    command += ["--mail-from", task.sender, "--mail-rcpt", task.recipient, "--upload-file", "-"]
    run(command, text=task.file(), folder=task.folder)


def s_nail(task: Task) -> None:
    scheme = "smtps" if task.implicit else "smtp"
    user, password = quote(task.login.username, safe=""), quote(task.login.password, safe="")
    settings = ["v15-compat", f"mta={scheme}://{user}:{password}@localhost:{task.port}", "smtp-auth=plain"]
    settings += [f"tls-ca-file={task.authority}", "tls-ca-no-defaults", "tls-verify=strict", f"from={task.sender}"]
    settings += ["ttycharset=utf-8", "nosave", "sendwait"]
    if not task.implicit:
        settings.append("smtp-use-starttls")
    options = [option for setting in settings for option in ("-S", setting)]
    command = [need("s-nail", "s-nail"), "-:/", *options, "-r", task.sender, "-s", SUBJECT, task.recipient]
    run(command, text=TEXT.encode(), folder=task.folder, more={"MAILRC": "/dev/null"})


def python(task: Task) -> None:
    context = ssl.create_default_context(cafile=task.authority)
    if task.implicit:
        client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", task.port, context=context, timeout=30)
    else:
        client = smtplib.SMTP("localhost", task.port, timeout=30)
    with client:
        if not task.implicit:
            client.starttls(context=context)
        client.login(*task.login)
        refused = client.send_message(task.mail())
    assert not refused


def nodemailer(task: Task) -> None:
    node = need("node", "nodejs")
    module = npm_modules(task.cache) / "nodemailer"
    run([node, str(HERE / "send.cjs"), task.as_json(str(module))], folder=task.folder)


def phpmailer(task: Task) -> None:
    php = need("php", "php-cli")
    module = need_file("/usr/share/php/libphp-phpmailer/autoload.php", "libphp-phpmailer")
    run([php, str(HERE / "send.php"), task.as_json(module)], folder=task.folder)


def git(task: Task) -> None:
    program = need("git", "git")
    need_file("/usr/lib/git-core/git-send-email", "git-email")
    need_perl("Authen::SASL", "libauthen-sasl-perl")
    need_perl("IO::Socket::SSL", "libio-socket-ssl-perl")
    who = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "Jan Jansen", f"GIT_{role}_EMAIL": task.sender}
    (task.folder / "file").write_text(TEXT)
    for arguments in (
        ["init", "-q"],
        ["add", "file"],
        ["commit", "-q", "-m", SUBJECT],
        ["format-patch", "--root", "-q"],
    ):
        run([program, *arguments], folder=task.folder, more=who)
    patch = next(task.folder.glob("0001-*.patch"))
    command = [program, "send-email", "--quiet", "--confirm=never", f"--from={task.sender}", f"--to={task.recipient}"]
    command += ["--suppress-cc=all", "--smtp-server=localhost", f"--smtp-server-port={task.port}"]
    command += [f"--smtp-encryption={'ssl' if task.implicit else 'tls'}", f"--smtp-ssl-cert-path={task.authority}"]
    command += [f"--smtp-user={task.login.username}", f"--smtp-pass={task.login.password}", str(patch)]
    run(command, folder=task.folder, more=who)


SENDERS: dict[str, Callable[[Task], None]] = {
    "swaks": swaks,
    "swaks-login": swaks_login,
    "msmtp": msmtp,
    "curl": curl,
    "s-nail": s_nail,
    "smtplib": python,
    "nodemailer": nodemailer,
    "phpmailer": phpmailer,
    "git-send-email": git,
}
