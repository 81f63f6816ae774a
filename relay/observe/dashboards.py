"""`monitoring/grafana/dashboards/*.json`, written from `monitoring/dashboards.toml`.

`python -m relay.observe.dashboards monitoring` writes them; a test keeps the files equal to what this makes.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS, HEIGHT, HALF = 24, 8, 12
INSTANCE = 'instance=~"$instance"'
KINDS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    },
}
LINES = {
    "drawStyle": "line",
    "lineInterpolation": "linear",
    "lineWidth": 1,
    "fillOpacity": 10,
    "showPoints": "never",
    "spanNulls": False,
}
LINK: dict[str, Any] = {
    "icon": "external link",
    "tooltip": "",
    "tags": [],
    "url": "",
    "asDropdown": False,
    "includeVars": False,
    "keepTime": False,
    "targetBlank": False,
}

Table = dict[str, Any]


def dashboards(folder: Path) -> dict[str, str]:
    """Name of each dashboard and its JSON, from `folder/dashboards.toml`."""
    read = tomllib.loads((folder / "dashboards.toml").read_text("utf-8"))
    return {name: json.dumps(_dashboard(name, table), indent=2) + "\n" for name, table in read.items()}


def _dashboard(name: str, table: Table) -> Table:
    return {
        "uid": f"zegel-{name}",
        "title": table["title"],
        "description": table["about"],
        "tags": ["zegel"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "links": [
            LINK
            | {"title": "Zegel", "type": "dashboards", "tags": ["zegel"]}
            | {"asDropdown": True, "includeVars": True, "keepTime": True}
        ],
        "templating": {"list": _variables()},
        "panels": list(_panels(table["panel"])),
    }


def _variables() -> list[Table]:
    """Which Prometheus, which gateways, and where the runbook is served."""
    source = {"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus"}
    instance = {
        "name": "instance",
        "type": "query",
        "label": "gateway",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": 'label_values(up{job="zegel"}, instance)',
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }
    runbook = {
        "name": "runbook",
        "type": "textbox",
        "label": "runbook",
        "description": "Where docs/operating.md is served.",
        "query": "/zegel/operating.md",
        "current": {"selected": True, "text": "/zegel/operating.md", "value": "/zegel/operating.md"},
    }
    return [source, instance, runbook]


def _panels(tables: list[Table]) -> Iterator[Table]:
    """Two in a row, or one that is wide; a last one alone has the row for itself."""
    x = y = 0
    for number, table in enumerate(tables, 1):
        is_last_alone = x == 0 and number == len(tables)
        width = COLUMNS if table.get("wide") or is_last_alone else HALF
        if x + width > COLUMNS:
            x, y = 0, y + HEIGHT
        yield _panel(number, table) | {"gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT}}
        x += width
        if x == COLUMNS:
            x, y = 0, y + HEIGHT


def _panel(number: int, table: Table) -> Table:
    kind = table.get("kind", "timeseries")
    source = {"type": "prometheus", "uid": "${datasource}"}
    defaults: Table = {"unit": table["unit"], "thresholds": _thresholds(table), "color": _colour(table)}
    if kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = LINES | {"thresholdsStyle": {"mode": "dashed" if "bad" in table else "off"}}
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": source,
            "expr": expression.replace("$in}", INSTANCE + "}").replace("$in,", INSTANCE + ","),
            "legendFormat": legend,
            "instant": kind == "stat",
            "range": kind != "stat",
        }
        for index, (legend, expression) in enumerate(table["queries"].items())
    ]
    return {
        "id": number,
        "type": kind,
        "title": table["title"],
        "description": table["about"],
        "datasource": source,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": KINDS[kind],
        "links": [
            LINK
            | {"title": "What it means and what to do", "type": "link", "url": f"${{runbook}}#{table['runbook']}"}
            | {"targetBlank": True}
        ],
    }


def _thresholds(table: Table) -> Table:
    steps: list[Table] = [{"color": "green", "value": None}]
    steps += [
        {"color": colour, "value": table[key]} for key, colour in (("warn", "orange"), ("bad", "red")) if key in table
    ]
    return {"mode": "absolute", "steps": steps}


def _colour(table: Table) -> Table:
    return {"mode": "thresholds" if table.get("kind") == "stat" else "palette-classic"}


if __name__ == "__main__":
    here = Path(sys.argv[1])
    for name, text in dashboards(here).items():
        (here / "grafana/dashboards" / f"{name}.json").write_text(text, encoding="utf-8")
