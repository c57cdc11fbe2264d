"""`schema`: the JSON Schema of recipes."""

import json

from tests.support.command_line import cli


def test_schema_describes_every_key(tmp_path):
    schema = json.loads(cli("schema", cwd=tmp_path).stdout)
    sections = [definition for definition in schema["$defs"].values() if "properties" in definition]
    assert len(sections) >= 9
    for section in sections:
        for key, value in section["properties"].items():
            described = schema["$defs"][value["$ref"].rsplit("/", 1)[-1]] if "$ref" in value else value
            assert described.get("description"), f"{section['title']}.{key}"
