"""What a run against our API needs to know beside the description."""

import os
import socket
import uuid

import schemathesis

# Every name below `localhost` leads to this machine (RFC 6761), which the resolver here doesn't do by itself.
resolve = socket.getaddrinfo


def on_this_machine(host, *rest, **named):
    if isinstance(host, str) and host.endswith(".localhost"):
        host = "127.0.0.1"
    return resolve(host, *rest, **named)


socket.getaddrinfo = on_this_machine

# Names and ids of who asks. schemathesis takes names from answers; it would end its own session or lock itself out.
OWN = set(os.environ["OWN"].split(","))


def other(value):
    return value + "x" if value in OWN else value


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.path_parameters:
        case.path_parameters = {name: other(value) for name, value in case.path_parameters.items()}
    if isinstance(case.body, dict) and isinstance(case.body.get("name"), str):
        case.body["name"] = other(case.body["name"])
    # It takes a bare 0 for a string within quotes, whatever the pattern says.
    if case.meta and case.meta.generation.mode.is_positive and "idempotency-key" in (case.headers or {}):
        case.headers["idempotency-key"] = f'"{uuid.uuid4()}"'
