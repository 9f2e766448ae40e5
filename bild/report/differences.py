"""What keeps points apart: the sections of a report beside each other, field by field."""

from __future__ import annotations

from collections.abc import Sequence

from bild.report.sections import Section
from bild.report.table import Table
from bild.results import identity

ABSENT = "absent"


def difference_table(sections: Sequence[Section], names: Sequence[str] = ()) -> Table | None:
    """Every field in which the sections differ, a column a section; None where there is only one section."""
    if len(sections) < 2:
        return None
    found = [_fields(section) for section in sections]
    fields = list(dict.fromkeys(name for each in found for name in each))
    rows = []
    for field in fields:
        values = [each.get(field, ABSENT) for each in found]
        if len(set(values)) > 1:
            rows.append((field, *map(_short, values)))
    headings = ("field", *(names or [str(index + 1) for index in range(len(sections))]))
    notes = ["Points that differ in any of these are never put on one front or in one table."]
    notes += [
        f"{heading}: {section.title}; {section.conditions}; {len(section.records)} points"
        for heading, section in zip(headings[1:], sections, strict=True)
    ]
    title = "What keeps the sections apart"
    return Table("differences", title, headings, tuple(rows), tuple(notes), names=len(headings))


def _fields(section: Section) -> dict[str, str]:
    first = section.first
    fields = {name: str(value) for name, value in identity(first).items()}
    machine = first.environment["machine"]
    fields |= {f"machine.{name}": str(value) for name, value in machine.items() if name != "fingerprint"}
    return {"pair.name": first.pair.name, "schema": str(first.schema)} | fields


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:16]}… ({len(value)} characters)"
