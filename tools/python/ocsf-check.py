# Validates OCSF events, one JSON object a line on stdin, against the JSON Schema of their class that ocsf-json-schema
# makes from its packaged copy of the OCSF schema. One line a problem; exits 1 when there is any.
#   .tools/python/bin/python tools/python/ocsf-check.py < events.ndjson
import json
import sys

import jsonschema_rs
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

schemas = {}
validators = {}


def validator_of(event):
    version = event["metadata"]["version"]
    profiles = event["metadata"].get("profiles", [])
    key = (version, event["class_uid"], tuple(profiles))
    if key not in validators:
        if version not in schemas:
            schemas[version] = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
        schema = schemas[version]
        name = schema.lookup_class_name_from_uid(class_uid=event["class_uid"])
        document = schema.get_class_schema(class_name=name, profiles=profiles)
        validators[key] = jsonschema_rs.Draft202012Validator(document, validate_formats=True)
    return validators[key]


problems = 0
count = 0
for line in sys.stdin:
    event = json.loads(line)
    count += 1
    for error in validator_of(event).iter_errors(event):
        problems += 1
        where = "/".join(str(part) for part in error.instance_path)
        print(f"{event['metadata'].get('event_code')}: {where}: {error.message[:300]}")
print(f"{count} events, {problems} problems")
sys.exit(1 if problems > 0 or count == 0 else 0)
