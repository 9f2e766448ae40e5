"""The JSON Schema of `record.json`. `python -m bild.results.schema` writes the file that the package ships."""

from __future__ import annotations

import json
from pathlib import Path

from bild.results.codec import json_schema
from bild.results.record import SCHEMA_VERSION, Record

SCHEMA_PATH = Path(__file__).with_name("record.schema.json")


def schema_text() -> str:
    """The schema as it follows from the dataclasses."""
    schema = json_schema(Record)
    schema["properties"]["schema"] = {"const": SCHEMA_VERSION}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
