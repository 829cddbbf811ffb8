"""Answers the AWS CLI until standard input ends: moto, and for CloudFormation, whose transforms moto does not know, a
few actions that hold a stack's parameters to its template. Prints both ports."""
import json
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from cfnlint.decode import decode
from moto.server import ThreadedMotoServer

stacks = {}


class Refused(Exception):
    pass


def change(query):
    """CreateChangeSet: parameters that the template has, and all that it needs."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(query["TemplateBody"])
        file.flush()
        template, problems = decode(file.name)
    if problems:
        raise Refused(str(problems[0]))
    given, previous = {}, set()
    for key, name in query.items():
        if match := re.fullmatch(r"Parameters\.member\.(\d+)\.ParameterKey", key):
            value = query.get(f"Parameters.member.{match[1]}.ParameterValue")
            (given.__setitem__(name, value) if value is not None else previous.add(name))
    for name, parameter in template["Parameters"].items():
        value = given.get(name)
        if value is None:
            if "Default" not in parameter and name not in previous:
                raise Refused(f"Parameters: [{name}] must have values")
        elif "AllowedPattern" in parameter and not re.fullmatch(parameter["AllowedPattern"], value):
            raise Refused(f"{name} is {value}")
        elif value not in parameter.get("AllowedValues", [value]):
            raise Refused(f"{name} is {value}")
    if unknown := (given.keys() | previous) - template["Parameters"].keys():
        raise Refused(f"Parameters: [{', '.join(sorted(unknown))}] do not exist in the template")
    if not any(value.startswith("CAPABILITY_IAM") for key, value in query.items() if "Capabilities" in key):
        raise Refused("Requires capabilities : [CAPABILITY_IAM]")
    if "Transform" in template and "CAPABILITY_AUTO_EXPAND" not in query.values():
        raise Refused("Requires capabilities : [CAPABILITY_AUTO_EXPAND]")
    stacks[query["StackName"]] = template
    return "<Id>arn:aws:cloudformation:eu-central-1:123456789012:changeSet/one</Id><StackId>stack</StackId>"


def describe(query):
    name = query["StackName"]
    if name not in stacks:
        raise Refused(f"Stack with id {name} does not exist")
    outputs = "".join(
        f"<member><OutputKey>{escape(key)}</OutputKey><OutputValue>sample</OutputValue></member>"
        for key in stacks[name]["Outputs"]
    )
    return (
        f"<Stacks><member><StackName>{name}</StackName><CreationTime>2026-01-01T00:00:00Z</CreationTime>"
        f"<StackStatus>UPDATE_COMPLETE</StackStatus><Outputs>{outputs}</Outputs></member></Stacks>"
    )


def resource(query):
    name, logical = query["StackName"], query["LogicalResourceId"]
    if logical not in stacks[name]["Resources"]:
        raise Refused(f"Resource {logical} does not exist for stack {name}")
    return f"<StackResourceDetail><PhysicalResourceId>{logical}</PhysicalResourceId></StackResourceDetail>"


def summary(query):
    parameters = stacks[query["StackName"]]["Parameters"]
    keys = "".join(f"<member><ParameterKey>{key}</ParameterKey></member>" for key in parameters)
    return f"<Parameters>{keys}</Parameters>"


ACTIONS = {
    "CreateChangeSet": change,
    "DescribeChangeSet": lambda _: "<Status>CREATE_COMPLETE</Status>",
    "ExecuteChangeSet": lambda _: "",
    "DescribeStacks": describe,
    "DescribeStackResource": resource,
    "GetTemplateSummary": summary,
    "DeleteStack": lambda query: stacks.pop(query["StackName"]) and "",
}


class CloudFormation(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        query = {key: values[0] for key, values in parse_qs(body, keep_blank_values=True).items()}
        action = query["Action"]
        try:
            status, text = 200, ACTIONS[action](query)
            text = f"<{action}Response><{action}Result>{text}</{action}Result></{action}Response>"
        except (KeyError, Refused) as error:
            text = f"<Code>ValidationError</Code><Message>{escape(str(error))}</Message>"
            status, text = 400, f"<ErrorResponse><Error><Type>Sender</Type>{text}</Error></ErrorResponse>"
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
moto.start()
ours = ThreadingHTTPServer(("127.0.0.1", 0), CloudFormation)
threading.Thread(target=ours.serve_forever, daemon=True).start()
print("ports", json.dumps([moto.get_host_and_port()[1], ours.server_port]), flush=True)
sys.stdin.read()
moto.stop()
