"""Holds manifests to published schemas: validate.py VERSION FILE…

Those of Kubernetes VERSION are in the package kubernetes-validate; `schemas` has those of the
Gateway API. A property that no schema knows is an error. Prints a line for each object.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

SCHEMAS = Path(__file__).parent / "schemas"


def closed(schema: Any) -> Any:
    """Returns the schema, which also refuses properties that it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        # The schema leaves `metadata` open; Kubernetes has one for it.
        if schema["properties"]:
            schema.setdefault("additionalProperties", False)
    return schema


def check(document: dict[str, Any], version: str) -> str:
    """Checks an object, and returns what it was held to."""
    group, _, kind_version = document["apiVersion"].rpartition("/")
    kind = document["kind"]
    if group != "gateway.networking.k8s.io":
        kubernetes_validate.validate(document, version, strict=True)
        return f"Kubernetes {version}"
    if kind_version != "v1":
        raise ValueError(f"{kind} should be v1, and is {kind_version}")
    schema = json.loads((SCHEMAS / f"{kind.lower()}.json").read_text())
    jsonschema.validate(document, closed(schema))
    return schema["$comment"].partition(",")[0]


def main() -> int:
    """Checks all files, and returns the exit status."""
    version, *files = sys.argv[1:]
    failures = 0
    for file in files:
        for document in yaml.safe_load_all(Path(file).read_text()):
            name = f"{Path(file).name}: {document['kind']} {document['metadata']['name']}"
            try:
                print(f"{name}: {check(document, version)}")
            except (
                jsonschema.ValidationError,
                kubernetes_validate.ValidationError,
                ValueError,
            ) as error:
                print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
                failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
