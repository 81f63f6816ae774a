"""compose.yaml and the Dockerfile: valid, closed to others where they should be, and of the same mind as the settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.settings.environment import overlay
from relay.settings.model import Settings
from tests.deploy.debian import ROOT

SCHEMA = Path(__file__).parent / "schema" / "compose-spec.json"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def test_it_keeps_the_compose_specification(compose: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    schema = json.loads(SCHEMA.read_text())
    validator = jsonschema.Draft7Validator(schema)
    assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(compose)] == []
    wrong = {**compose, "services": {**compose["services"], "gateway": {"image": 7, "portz": []}}}
    assert list(validator.iter_errors(wrong)), "the schema can refuse"


def test_every_service_may_do_little_and_writes_into_volumes_only(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and "cap_add" not in service, name
        for volume in service.get("volumes", ()):
            source, _, mode = volume.partition(":")[0], *volume.partition(":")[1:]
            if source.startswith("."):
                assert mode.endswith(":ro") and (ROOT / source).exists(), volume
            else:
                assert source in compose["volumes"], volume


def test_only_smtp_is_open_to_others(compose: dict[str, Any]) -> None:
    ports = {name: service.get("ports", ()) for name, service in compose["services"].items()}
    opened = {(name, port) for name, each in ports.items() for port in each if not port.startswith("127.0.0.1:")}
    assert opened == {("gateway", "465:465"), ("gateway", "587:587")}


def test_nobody_but_the_gateway_reaches_redis(compose: dict[str, Any]) -> None:
    """It has no password, and who can write to it releases suspended accounts (THROTTLE-9)."""
    nets = {name: set(service.get("networks", ["default"])) for name, service in compose["services"].items()}
    assert {name for name, own in nets.items() if own & nets["redis"]} == {"gateway", "redis"}
    assert all(compose["networks"][net]["internal"] is True for net in nets["redis"])
    assert "default" in nets["gateway"] and "ports" not in compose["services"]["redis"]


def test_no_image_is_of_whatever_version_or_of_a_named_registry(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        image = service["image"]
        assert image == "zegel" or re.fullmatch(r"[a-z]+(/[a-z]+)?:v?\d[\w.]*", image), image


def test_the_settings_in_it_are_settings(compose: dict[str, Any]) -> None:
    table: dict[str, Any] = {}
    problems = overlay(table, compose["services"]["gateway"]["environment"], {})
    assert problems == []
    made = Settings.model_validate_json(json.dumps(table))
    assert made.storage.redis is not None and made.web.expose_machine_routes


def test_it_waits_longer_for_a_drain_than_one_takes(compose: dict[str, Any]) -> None:
    seconds = int(compose["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
    assert seconds >= 2 * Settings().server.drain_timeout_seconds + 10


def test_prometheus_there_reads_the_rules_that_are_here(compose: dict[str, Any]) -> None:
    config = yaml.safe_load(compose["configs"]["prometheus"]["content"])
    own = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    assert config["rule_files"] == own["rule_files"] and config["global"] == own["global"]
    assert [job["job_name"] for job in config["scrape_configs"]] == [job["job_name"] for job in own["scrape_configs"]]


def test_the_image_is_not_of_root_and_says_how_it_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.M) and "HEALTHCHECK" in text and "/healthz" in text
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text), "no registry by name"
