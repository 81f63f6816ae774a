"""The operations of the tenants' API as its own document has them, each with a request that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

METHODS = ("get", "post", "put", "patch", "delete")


class Operation(NamedTuple):
    method: str
    path: str  # with the places of its parameters
    scope: str
    query: dict[str, Any]
    body: Any  # None: it takes none
    said: Mapping[str, Any]  # what the document says of it

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, values: Mapping[str, str]) -> str:
        return "/api/v1" + self.path.format(**values)


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every one. Fails where one names no scope, or not exactly one, and where a body or query has no example."""
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            if method in METHODS:
                (needs,) = said["security"]
                ((scope,),) = needs.values()
                query = {
                    one["name"]: sample(
                        document, one["schema"] | {k: one[k] for k in ("example", "examples") if k in one}
                    )
                    for one in said.get("parameters", ())
                    if one["in"] == "query" and one["required"]
                }
                content = said.get("requestBody", {}).get("content", {}).get("application/json")
                body = sample(document, content["schema"]) if content else None
                yield Operation(method.upper(), path, scope, query, body, said)


def sample(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """The first example that a schema, or the first branch of it, gives."""
    if "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return sample(document, found)
    if "examples" in schema:
        return schema["examples"][0]
    if "example" in schema:
        return schema["example"]
    if schema.get("type") == "array":
        return [sample(document, schema["items"])]
    return sample(document, schema["anyOf"][0])
