"""Judges events by the schema that OCSF publishes (its compiled form comes with ocsf-json-schema), one event a line.

Prints a line of JSON: how many events of which class there were, and what is wrong with which of them.
"""

import json
import sys
from importlib import resources

import jsonschema_rs
from ocsf_json_schema import OcsfJsonSchemaEmbedded

VERSION = sys.argv[1]
# Attributes that may hold whatever they like.
FREE = {"unmapped"}


def published(version):
    text = resources.files("ocsf_json_schema").joinpath(f"ocsf/{version}.json").read_text(encoding="utf-8")
    return json.loads(text)


schema = OcsfJsonSchemaEmbedded(published(VERSION))
validators = {}


def validator(event):
    profiles = tuple(sorted(event["metadata"]["profiles"]))
    key = (event["class_uid"], profiles)
    if key not in validators:
        name = schema.lookup_class_name_from_uid(event["class_uid"])
        form = schema.get_class_schema(name, list(profiles))
        validators[key] = (form, jsonschema_rs.Draft202012Validator(form))
    return validators[key]


def deprecated(form, value, whole, path=""):
    """Names of attributes that the schema has given up."""
    if "$ref" in form:
        form = whole["$defs"][form["$ref"].removeprefix("#/$defs/")]
    if isinstance(value, list):
        for entry in value:
            yield from deprecated(form.get("items", {}), entry, whole, path)
    if not isinstance(value, dict) or path in FREE:
        return
    for name, inner in value.items():
        of_it = form.get("properties", {}).get(name, {})
        if of_it.get("deprecated"):
            yield f"{path}.{name}"
        yield from deprecated(of_it, inner, whole, name)


classes, wrong = {}, []
for number, line in enumerate(sys.stdin):
    event = json.loads(line)
    form, judge = validator(event)
    said = [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in judge.iter_errors(event)]
    said += [f"{name} is deprecated" for name in deprecated(form, event, form)]
    if event["metadata"]["version"] != VERSION:
        said.append("another version")
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        said.append("type_uid is not of its class and activity")
    if event["activity_id"] == 99 and not event.get("activity_name"):
        said.append("another activity without a name")
    if said:
        wrong.append({"line": number, "said": said, "event": event})
    name = form["title"]
    classes[name] = classes.get(name, 0) + 1
print(json.dumps({"classes": classes, "wrong": wrong[:20], "count": sum(classes.values())}))
