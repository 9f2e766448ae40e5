"""Read JSON Lines, CSV, TSV and Parquet row by row, with the place of every row for error messages."""

from __future__ import annotations

import csv
import glob
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bild.errors import BildError, refusing, told
from bild.results.files import open_readable, parse, refuse_pointer

_BATCH = 1000
_LONGEST = 2**26  # characters of a line or a cell; csv's own limit of 131,072 is shorter than some documents


@dataclass(frozen=True)
class Row:
    """One row as it was read; `place` names it in words ("line 17 of FILE")."""

    place: str
    fields: Mapping[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a data file by its extension.

    Raises BildError for an unknown extension, bytes that are not UTF-8, a malformed line, and a file without rows.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BildError(f"The extension of {path} is not known: give a file that ends in one of {', '.join(_READERS)}.")
    refuse_pointer(path)
    empty = True
    try:
        for row in reader(path):
            empty = False
            yield row
    except UnicodeDecodeError as error:
        raise BildError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from error
    except OSError as error:
        raise BildError(f"{path} cannot be read ({told(error)}): check the file.") from error
    if empty:
        raise BildError(f"{path} has no rows: give a data file with at least one example.")


def _lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """Yield the lines of a text, none of them longer than fits into memory."""
    with os.fdopen(open_readable(path), encoding="utf-8-sig", newline=newline) as file:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            if len(line) == _LONGEST:
                raise BildError(f"line {number} of {path} has {_LONGEST:,} characters or more: split the file.")
            yield line


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                fields = parse(line)
            except ValueError as error:  # also a number of thousands of digits
                why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else told(error)
                raise BildError(
                    f"line {number} of {path} cannot be read as JSON ({why}): write one JSON object on each line."
                ) from error
            if not isinstance(fields, dict):
                raise BildError(f"line {number} of {path} is not a JSON object: write one JSON object on each line.")
            yield Row(f"line {number} of {path}", fields)


def _separated(path: Path, *, delimiter: str, quoting: Any) -> Iterator[Row]:
    """Read rows under a header line; line numbers are those where the row ends."""
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(_lines(path, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    with refusing(lambda why: f"line {reader.line_num} of {path} is malformed ({why}): fix the line.", csv.Error):
        header, place = next(reader, []), ""
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise BildError(f"line 1 of {path} names the column {twice[0]} twice: rename or remove one.")
        for cells in reader:
            if not cells:
                continue
            place = f"line {reader.line_num} of {path}"
            if len(cells) != len(header):
                raise BildError(f"{place} has {len(cells)} fields where the header has {len(header)}: fix the line.")
            yield Row(place, dict(zip(header, cells, strict=True)))
    if header and not place:
        raise BildError(f"{path} has no rows below its first line, which names the columns: add one, or the names.")


def _parquet(path: Path) -> Iterator[Row]:
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the sentence below says it all
    # Streaming reads the file where it lies. `datasets` still wants a folder for its lock: a temporary one keeps a
    # read-only or shared cache as it is.
    kinds = (ValueError, datasets.exceptions.DatasetGenerationError)  # ValueError: also pyarrow's
    with (
        tempfile.TemporaryDirectory() as scratch,
        refusing(lambda why: f"{path} is not a readable Parquet file ({why}): fetch or write it again.", *kinds),
    ):
        stream = datasets.load_dataset(
            "parquet",
            data_files=glob.escape(str(path)),
            split="train",  # what the reader calls any list of files
            streaming=True,
            cache_dir=scratch,
            batch_size=_BATCH,  # without it, that of the first row group: an error for a file without rows
        )
        number = 0
        for batch in stream.iter(batch_size=_BATCH):
            columns = list(batch)
            for values in zip(*batch.values(), strict=True):
                yield Row(f"row {number} (from 0) of {path}", dict(zip(columns, values, strict=True)))
                number += 1


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json_lines,
    ".csv": partial(_separated, delimiter=",", quoting=csv.QUOTE_MINIMAL),
    # A quotation mark that opens a field of a TSV is text: parallel corpora are full of them.
    ".tsv": partial(_separated, delimiter="\t", quoting=csv.QUOTE_NONE),
    ".parquet": _parquet,
}
