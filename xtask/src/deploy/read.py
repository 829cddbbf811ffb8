"""Prints the given Terraform, CloudFormation and YAML files as one JSON object by path.

Terraform: {"resource": [{"kind", "name", "body"}], "data": …, "module": …, "variable": …}; strings without quotes."""
import json
import sys

import hcl2
import yaml
from cfnlint.decode import decode


def plain(value):
    if isinstance(value, dict):
        return {key.strip('"'): plain(inner) for key, inner in value.items() if key != "__comments__"}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def terraform(path):
    with open(path) as file:
        document = plain(hcl2.load(file))
    for kind in ("resource", "data"):
        document[kind] = [
            {"kind": of, "name": name, "body": body}
            for block in document.get(kind, [])
            for of, named in block.items()
            for name, body in named.items()
            if of != "__is_block__" and name != "__is_block__"
        ]
    return document


def cloudformation(path):
    template, problems = decode(path)
    if problems:
        sys.exit(f"{path}: {problems[0]}")
    return template


def read(path):
    if path.endswith(".tf"):
        return terraform(path)
    if "/cloudformation/" in path:
        return cloudformation(path)
    with open(path) as file:
        return yaml.safe_load(file)


json.dump({path: read(path) for path in sys.argv[1:]}, sys.stdout)
