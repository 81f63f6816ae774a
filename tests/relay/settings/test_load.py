"""Loading: what is read from where, which wins, and that everything wrong is told at once with its remedy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from relay.settings.load import find, load
from relay.settings.model import Settings
from relay.settings.problem import ConfigError, Problem

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def write(folder: Path, text: str) -> Path:
    path = folder / "zegel.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path | None, **environment: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, environment=environment)
    assert str(caught.value).count("\n") + 1 >= len(caught.value.problems)
    return caught.value.problems


def test_without_a_file_the_defaults_hold_and_data_lie_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environment={})
    assert settings.server.data_dir == tmp_path / "zegel-data"
    assert settings.server.keys_dir == tmp_path / "zegel-keys"
    assert settings.database_path == tmp_path / "zegel-data" / "zegel.db"
    assert settings.limits.max_message_bytes == 26_214_400
    assert [listener.endpoint.is_loopback for listener in settings.listener] == [True]


def test_the_file_is_found_by_option_then_variable_then_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(Path("given.toml"), {"ZEGEL_CONFIG": "named.toml"}) == Path("given.toml")
    assert find(None, {"ZEGEL_CONFIG": "named.toml"}) == Path("named.toml")
    write(tmp_path, "")
    assert find(None, {}) == Path("zegel.toml")


def test_a_missing_file_that_was_named_is_an_error_and_not_the_defaults(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path / "absent.toml")
    assert problem.file == str(tmp_path / "absent.toml")
    assert "zegel init" in problem.remedy


def test_text_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path, "[server]\nhostname = \n"))
    assert "line 2" in problem.wrong


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("limits", "command_timeout_seconds = inf"),
        ("limits", "command_timeout_seconds = nan"),
        ("limits", "max_message_bytes = 99999999999999999999999999"),
        ("limits", "max_connections = 99999999999999999999999"),
        ("limits", "max_recipients = 99999999999999999999999"),
        ("limits", "min_free_disk_bytes = 99999999999999999999999999"),
        ("delivery", "connections_per_destination = 99999999999999999999"),
        ("delivery", "give_up_after_hours = inf"),
        ("delivery", "retry_after_seconds = [300, inf]"),
        ("privacy", "consent_proof_years = 99999999999999999999"),
    ],
)
def test_a_number_that_nothing_could_hold_is_refused(tmp_path: Path, section: str, line: str) -> None:
    """Each of these was accepted, and the gateway then hung or began again and again."""
    (problem,) = problems(write(tmp_path, f"[{section}]\n{line}\n"))
    assert problem.key.startswith(f"{section}.{line.partition(' ')[0]}")
    assert "at most" in problem.remedy
    assert len(problem.wrong) < 160


def test_every_number_of_the_settings_has_an_upper_bound() -> None:
    for section in Settings.model_json_schema()["$defs"].values():
        for key, schema in section["properties"].items():
            for kind in (schema, schema.get("items", {})):
                if kind.get("type") in ("integer", "number"):
                    assert "maximum" in kind, key


def test_the_mark_of_a_windows_editor_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "zegel.toml"
    path.write_bytes(b'\xef\xbb\xbf[server]\r\nhostname = "relay.example"\r\n')
    assert load(path, environment={}).server.hostname == "relay.example"


@pytest.mark.parametrize(
    ("content", "wrong", "remedy"),
    [
        ('[server]\nhostname = "caf\xe9.example"\n'.encode("latin-1"), "line 2 is not UTF-8", "Save the file as UTF-8"),
        ("[server]\n".encode("utf-16"), "line 1 is not UTF-8", "Save the file as UTF-8"),
        (b"x = " + b"[" * 5_000 + b"]" * 5_000, "nested too deeply", "brackets"),
        (b"x = " + b"9" * 5_000, "digits", "number"),
    ],
    ids=["latin-1", "utf-16", "brackets", "digits"],
)
def test_what_is_no_toml_gets_a_sentence(tmp_path: Path, content: bytes, wrong: str, remedy: str) -> None:
    """Not the text of Python's codec, and not a defect of ours."""
    path = tmp_path / "zegel.toml"
    path.write_bytes(content)
    (problem,) = problems(path)
    assert wrong in problem.wrong and remedy in problem.remedy
    assert "codec" not in str(problem)


@pytest.mark.parametrize("text", ["[" * 5_000 + "]" * 5_000, "9" * 5_000])
def test_a_variable_that_is_no_toml_gets_a_sentence(tmp_path: Path, text: str) -> None:
    (problem,) = problems(write(tmp_path, ""), ZEGEL_LIMITS__MAX_ERRORS=text)
    assert problem.key == "ZEGEL_LIMITS__MAX_ERRORS"
    assert len(problem.wrong) < 160


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[server]\nhostname = "file.example"\nworkers = 3\nlanguage = "en"\n')
    environment = {"ZEGEL_SERVER__HOSTNAME": "env.example", "ZEGEL_SERVER__WORKERS": "4"}
    settings = load(path, environment=environment, overrides={"server.workers": 5})
    assert (settings.server.hostname, settings.server.workers, settings.server.language) == ("env.example", 5, "en")


def test_relative_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    settings = load(write(tmp_path, '[server]\ndata_dir = "state"\nkeys_dir = "/srv/keys"\n'), environment={})
    assert settings.server.data_dir == tmp_path / "state"
    assert settings.server.keys_dir == Path("/srv/keys")


def test_every_kind_of_value_comes_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "ZEGEL_CONFIG": "not a setting",
        "ZEGEL_SERVER__PRIVATE_NETWORKS": "10.0.0.0/8, fd00::/8",
        "ZEGEL_DELIVERY__MODE": "smarthost",
        "ZEGEL_DELIVERY__SMARTHOSTS": '["smtp://127.0.0.1:2526"]',
        "ZEGEL_DELIVERY__RETRY_AFTER_SECONDS": "1, 2.5",
        "ZEGEL_DELIVERY__USERNAME": "",
        "ZEGEL_WEB__EXPOSE_MACHINE_ROUTES": "true",
        "ZEGEL_LIMITS__MAX_ERRORS": "3",
        "ZEGEL_POLICIES__CONSENT__MODE": "observe",
        "ZEGEL_LISTENER__0__ADDRESS": "127.0.0.1:0",
    }
    settings = load(write(tmp_path, ""), environment=environment)
    assert settings.server.private_networks == ("10.0.0.0/8", "fd00::/8")
    assert settings.delivery.hops[0].port == 2526
    assert settings.delivery.retry_after_seconds == (1.0, 2.5)
    assert settings.web.expose_machine_routes is True
    assert settings.limits.max_errors == 3
    assert settings.policies == {"consent": {"mode": "observe"}}
    assert settings.listener[0].endpoint.port == 0 and settings.listener[0].tls == "off"


def test_problems_of_the_environment_name_the_variable(tmp_path: Path) -> None:
    found = problems(
        write(tmp_path, ""),
        ZEGEL_SERVR__HOSTNAME="x",
        ZEGEL_SERVER__HOSTNME="x",
        ZEGEL_LIMITS__MAX_ERRORS="many",
        ZEGEL_LISTENER__3__TLS="off",
        ZEGEL_DELIVERY__MODE="smarthost",
    )
    assert {problem.key for problem in found if problem.file == "environment"} == {
        "ZEGEL_SERVR__HOSTNAME",
        "ZEGEL_SERVER__HOSTNME",
        "ZEGEL_LIMITS__MAX_ERRORS",
        "ZEGEL_LISTENER__3__TLS",
    }
    assert "delivery.smarthosts" in {problem.key for problem in found}


def test_all_problems_come_at_once_with_file_key_and_remedy(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [server]
        hostname = "no such name!"
        data_dir = "data"
        keys_dir = "data/keys"
        colour = "red"
        [[listener]]
        address = "0.0.0.0:587"
        tls = "off"
        [[listener]]
        adress = "127.0.0.1:465"
        auth = false
        kind = "open"
        [limits]
        max_message_mb = 25
        command_timeout_seconds = "5m"
        max_in_flight_bytes = "1G"
        [delivery]
        mode = "mx"
        password = "secret"
        smarthosts = ["smtp://user:pw@host"]
        """,
    )
    found = problems(path)
    remedies = {problem.key: problem.remedy for problem in found}
    assert {problem.file for problem in found} == {str(path)}
    assert "relay.example.org" in remedies["server.hostname"]
    assert "beside" in remedies["server.keys_dir"]
    assert remedies["server.colour"].startswith("Known keys: hostname")
    assert 'tls = "required"' in remedies["listener.0.tls"]
    assert remedies["listener.1.adress"] == "Write address"
    assert "cannot be switched off" in remedies["listener.1.auth"]
    assert "'submission'" in remedies["listener.1.kind"]
    assert "max_message_bytes" in remedies["limits.max_message_mb"]
    assert remedies["limits.command_timeout_seconds"] == "Write command_timeout_seconds = 300, in seconds"
    assert remedies["limits.max_in_flight_bytes"] == "Write max_in_flight_bytes = 1073741824, in bytes"
    assert 'mode = "smarthost"' in remedies["delivery.mode"]
    assert "password_file" in remedies["delivery.password"]
    assert "password_file" in remedies["delivery.smarthosts.0"]
    assert len(found) == len(remedies), "each problem is told once"


def test_no_secret_of_a_refused_smarthost_is_repeated(tmp_path: Path) -> None:
    found = problems(write(tmp_path, '[delivery]\nsmarthosts = ["smtp://user:hunter2@host"]\n'))
    assert all("hunter2" not in str(problem) for problem in found)


@pytest.mark.parametrize("section", ["server", "web", "limits", "delivery"])
def test_a_section_of_the_wrong_shape_is_one_problem(tmp_path: Path, section: str) -> None:
    (problem,) = problems(write(tmp_path, f"{section} = 3\n"))
    assert problem.key == section and "table" in problem.remedy


def test_certificate_and_key_must_fit_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pair = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run(["openssl", "req", "-x509", *KEY, "-subj", "/CN=x", *pair], check=True, capture_output=True)
    listener = '[[listener]]\nkind = "submissions"\naddress = "127.0.0.1:0"\ncertificate = "a.pem"\nkey = "{}"\n'
    good = load(write(tmp_path, listener.format("a.key")), environment={})
    assert good.listener[0].certificate == tmp_path / "a.pem"
    (other,) = problems(write(tmp_path, listener.format("b.key")))
    assert "do not fit" in other.wrong
    (absent,) = problems(write(tmp_path, listener.format("c.key")))
    assert "cannot be read" in absent.wrong


def test_settings_cannot_be_changed_after_loading(tmp_path: Path) -> None:
    settings = load(write(tmp_path, ""), environment={})
    with pytest.raises(ValueError, match="frozen"):
        settings.limits.max_errors = 1  # type: ignore[misc]  # that is the point


def test_trusted_networks_answer_for_both_families_and_mapped_addresses() -> None:
    settings = Settings.model_validate({"server": {"private_networks": ["10.0.0.0/8"]}})
    held = ("127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3")
    assert all(address in settings.private for address in held)
    assert not any(address in settings.private for address in ("11.0.0.1", "fd00::1", "nonsense", ""))


def test_keys_that_a_link_leads_into_the_data_are_there(tmp_path: Path) -> None:
    """GDPR-19: a copy of the data would hold them, whatever the folder is called."""
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "keys").symlink_to(tmp_path / "data" / "inner")
    path = write(tmp_path, '[server]\ndata_dir = "data"\nkeys_dir = "keys"\n')
    (problem,) = problems(path)
    assert problem.key == "server.keys_dir" and "inside data_dir" in problem.wrong
    (tmp_path / "keys").unlink()
    (tmp_path / "keys").symlink_to(tmp_path)
    assert load(path, environment={}).server.keys_dir == tmp_path / "keys", "beside it, by a link"
