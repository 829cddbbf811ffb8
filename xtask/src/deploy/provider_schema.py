"""Prints, as JSON, the arguments of the named Terraform resources and data sources, from the npm package
@cdktf/provider-aws: provider_schema.py FOLDER TYPE... (a data source has the prefix "data.").

For each: {"arguments": {NAME: required}, "blocks": {NAME: {"arguments": ..., "blocks": ...}}}."""
import json
import pathlib
import re
import sys

ENTRY = re.compile(r"^\s+([a-z0-9_]+): cdktf\.(\S.*)$|^\s+([a-z0-9_]+): (\w+ToTerraform\(.*)$", re.M)


def camel(name):
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


def struct(name, body, js, ts):
    """One level: `body` lists the Terraform names, interface `name` which of them are required."""
    found = re.search(r"export interface %s(?: extends \S+)? \{(.*?)\n\}" % re.escape(name), ts, re.S)
    required = {m[0]: not m[1] for m in re.findall(r"readonly (\w+)(\??):", found[1])}
    level = {"arguments": {}, "blocks": {}}
    for match in ENTRY.finditer(body):
        key, text = match[1] or match[3], match[2] or match[4]
        needed = required.get(camel(key))
        if needed is None:
            # Computed names are no arguments.
            continue
        nested = re.search(r"(\w+)ToTerraform\b", text)
        level["arguments"][key] = needed
        if nested and nested[1] not in ("string", "number", "boolean", "any"):
            function = nested[1] + "ToTerraform"
            inner = re.search(r"function %s\(struct\) \{.*?return \{(.*?)\n    \};" % function, js, re.S)
            if inner:
                child = nested[1][:1].upper() + nested[1][1:]
                level["blocks"][key] = struct(child, inner[1], js, ts)
    return level


def schema(root, kind):
    data = kind.startswith("data.")
    name = kind.removeprefix("data.").removeprefix("aws_").replace("_", "-")
    folder = root / "lib" / (("data-aws-" if data else "") + name)
    js, ts = (folder / "index.js").read_text(), (folder / "index.d.ts").read_text()
    body = re.search(r"synthesizeAttributes\(\) \{\s+return \{(.*?)\n        \};", js, re.S)[1]
    config = re.search(r"export interface (\w+Config) extends", ts)[1]
    return struct(config, body, js, ts)


root = pathlib.Path(sys.argv[1])
lines = [f"{json.dumps(kind)}: {json.dumps(schema(root, kind), sort_keys=True)}" for kind in sorted(sys.argv[2:])]
print("{\n" + ",\n".join(lines) + "\n}")
