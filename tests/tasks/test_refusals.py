"""Every mistake in the data or in how they are asked for ends in one sentence that names it."""

from __future__ import annotations

import re

import pytest

from bild.errors import BildError
from bild.tasks import load_task
from tests.tasks.compose import task
from tests.tinydata import json_lines, parquet

GOOD = {"source": "Ja.", "reference": "Yes."}


def refusal(**options) -> str:
    """The sentence that a task=file with these options ends in."""
    with pytest.raises(BildError) as caught:
        load_task(task("file", **options))
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def written(tmp_path):
    """Write a data file, and return its path."""

    def write(content: bytes | str | list, name: str = "own.jsonl") -> str:
        path = tmp_path / name
        if isinstance(content, list):
            content = json_lines(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


# --- where the data are


def test_no_path():
    assert refusal(path="") == (
        "task.path is empty: set it to a data file (.parquet, .jsonl, .json, .csv, .tsv) or to a folder of "
        "<split> files."
    )


def test_a_path_that_does_not_exist(tmp_path):
    assert refusal(path=str(tmp_path / "nowhere.jsonl")).startswith(
        f"task.path={tmp_path / 'nowhere.jsonl'} does not exist: give a data file (.parquet, .jsonl"
    )


def test_an_unknown_extension(written):
    path = written("x", "own.xlsx")
    assert refusal(path=path) == (
        f"The extension of {path} is not known: give a file that ends in one of .jsonl, .json, .csv, .tsv, .parquet."
    )


def test_an_unknown_split_names_those_present(tmp_path, written):
    written([GOOD], "train.jsonl")
    written([GOOD], "dev.jsonl")
    assert refusal(path=str(tmp_path), split="test") == (
        f"task.split=test is not in the folder {tmp_path}: the splits there are dev, train, and a split is looked for "
        "as test.jsonl or the like."
    )


def test_an_empty_folder(tmp_path):
    assert "there are no data files" in refusal(path=str(tmp_path))


def test_a_split_that_task_files_does_not_name(tmp_path, written):
    written([GOOD], "a.jsonl")
    sentence = refusal(path=str(tmp_path), files={"train": "a.jsonl"}, split="test")
    assert "task.files names train (a.jsonl)" in sentence


def test_a_pattern_that_matches_nothing(tmp_path, written):
    written([GOOD], "a.jsonl")
    assert "task.files names test (b*.jsonl)" in refusal(path=str(tmp_path), files={"test": "b*.jsonl"})


def test_an_incomplete_set_of_shards(tmp_path, written):
    written(parquet([GOOD]), "test-00000-of-00002.parquet")
    assert refusal(path=str(tmp_path)) == (
        f"{tmp_path} has 1 of the 2 files that test-00000-of-00002.parquet belongs to: the download is incomplete, "
        "fetch it again."
    )


def test_an_unknown_embedded_data_set_names_those_there_are():
    with pytest.raises(
        BildError, match=r"^task.path=nope is not an embedded data set: choose one of captions, news\.$"
    ):
        load_task(task("embedded", path="nope"))


def test_an_unknown_split_of_an_embedded_data_set_names_those_there_are():
    with pytest.raises(
        BildError, match=r"^task\.split=train is not in the embedded data set news: the splits there are test\.$"
    ):
        load_task(task("embedded-news", split="train"))


# --- what is in a file


@pytest.mark.parametrize("name", ["own.jsonl", "own.csv", "own.tsv"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file(written, name, content):
    path = written(content, name)
    assert refusal(path=path) == f"{path} has no rows: give a data file with at least one example."


def test_a_header_and_nothing_else(written):
    path = written("source,reference\n", "own.csv")
    assert refusal(path=path) == (
        f"{path} has no rows below its first line, which names the columns: add one, or the names."
    )


def test_a_parquet_file_without_rows(tmp_path):
    import pandas

    path = tmp_path / "own.parquet"
    pandas.DataFrame({"source": [], "reference": []}).to_parquet(path)
    assert refusal(path=str(path)) == f"{path} has no rows: give a data file with at least one example."


def test_a_line_that_is_not_json_is_told_by_number(written):
    path = written(json_lines([GOOD] * 16) + b'{"source": "Ja.", "reference": \n')
    told = rf"line 17 of {re.escape(path)} cannot be read as JSON \(.+\): write one JSON object on each line\."
    assert re.fullmatch(told, refusal(path=path))


def test_a_key_that_stands_twice_is_refused_with_its_line(written):
    path = written(json_lines([GOOD]) + b'{"source": "Ja.", "source": "Nein.", "reference": "Yes."}\n')
    assert refusal(path=path) == (
        f"line 2 of {path} cannot be read as JSON (the key 'source' stands twice in one object): write one JSON object "
        "on each line."
    )


@pytest.mark.parametrize("line", ["[1, 2]", '"Ja."', "17", "null"])
def test_a_line_that_is_json_but_not_an_object(written, line):
    path = written(json_lines([GOOD]) + line.encode())
    assert refusal(path=path) == f"line 2 of {path} is not a JSON object: write one JSON object on each line."


def test_a_pretty_printed_array_is_told_apart(written):
    path = written('[\n  {"source": "Ja."}\n]', "own.json")
    assert refusal(path=path).startswith(f"line 1 of {path} cannot be read as JSON (")


def test_a_csv_line_with_too_many_fields(written):
    path = written("source,reference\nJa,Yes\nNein, danke,No\n", "own.csv")
    assert refusal(path=path) == f"line 3 of {path} has 3 fields where the header has 2: fix the line."


def test_a_csv_quotation_that_never_ends(written):
    path = written('source,reference\n"Ja,Yes\n', "own.csv")
    assert refusal(path=path) == f"line 2 of {path} is malformed (unexpected end of data): fix the line."


def test_bytes_that_are_not_utf8(written):
    path = written("source,reference\nGrüße,Hi\n".encode("latin-1"), "own.csv")
    assert re.fullmatch(rf"{re.escape(path)} is not UTF-8 text \(.+\): save it as UTF-8\.", refusal(path=path))


@pytest.mark.parametrize("content", [b"", b"hello, this is no parquet file"])
def test_a_broken_parquet_file(written, content):
    path = written(content, "own.parquet")
    assert refusal(path=path).startswith(f"{path} is not a readable Parquet file (")


# --- what is in a row


@pytest.mark.parametrize(
    ("name", "place"), [("own.jsonl", "line 1"), ("own.csv", "line 2"), ("own.parquet", "row 0 (from 0)")]
)
def test_a_missing_column_names_the_columns_present(written, name, place):
    content = {
        "own.jsonl": json_lines([{"de": "Ja.", "en": "Yes."}]),
        "own.csv": b"de,en\nJa.,Yes.\n",
        "own.parquet": parquet([{"de": "Ja.", "en": "Yes."}]),
    }[name]
    path = written(content, name)
    assert refusal(path=path) == (
        f"{place} of {path} has no column source: set task.source_column to one of its columns, which are de, en."
    )


def test_nested_columns_are_named_with_dots(written):
    path = written([{"id": "a", "translation": {"de": "Ja.", "en": "Yes."}}])
    sentence = refusal(path=path, source_column="translation.fr", reference_column="translation.en")
    assert sentence == (
        f"line 1 of {path} has no column translation.fr: set task.source_column to one of its columns, which are "
        "id, translation.de, translation.en."
    )


def test_a_reference_column_is_named_as_such(written):
    sentence = refusal(path=written([GOOD]), reference_column="en")
    assert "has no column en: set task.reference_column to" in sentence


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "nothing (null)"), (3, "a value of type int"), (["Ja."], "a value of type list"), (True, "type bool")],
)
@pytest.mark.parametrize("column", ["source", "reference"])
def test_a_value_that_is_not_a_string(written, column, value, kind):
    path = written([GOOD, {**GOOD, column: value}])
    sentence = refusal(path=path)
    assert sentence.startswith(f"line 2 of {path} has ")
    assert kind in sentence
    assert sentence.endswith(f"in the column {column}: it must be a string, fix the row.")


@pytest.mark.parametrize("column", ["source", "reference"])
@pytest.mark.parametrize("blank", ["", "  \t"])
def test_a_blank_text_in_ones_own_data(written, column, blank):
    path = written([GOOD, GOOD, {**GOOD, column: blank}])
    assert refusal(path=path) == f"line 3 of {path} is blank in the column {column}: fill it in or remove the row."


def test_a_bad_row_is_refused_even_where_the_sample_leaves_it_out(written):
    path = written([GOOD] * 50 + [{**GOOD, "source": ""}])
    for seed in range(3):
        assert "line 51" in refusal(path=path, samples=1, seed=seed)


def test_an_id_that_comes_twice(written):
    path = written([{**GOOD, "id": "a"}, {**GOOD, "id": "b"}, {**GOOD, "id": "a"}])
    assert refusal(path=path, id_column="id") == (
        f"line 3 of {path} has the id 'a' of line 1 of {path}: ids must be unique, fix task.id_column or the data."
    )


@pytest.mark.parametrize("name", ["", " ", None, 1.5, True])
def test_an_id_that_is_none(written, name):
    assert "line 1" in refusal(path=written([{**GOOD, "id": name}]), id_column="id")


def test_a_missing_id_column(written):
    assert "has no column nr: set task.id_column to" in refusal(path=written([GOOD]), id_column="nr")


# --- how many


def test_more_samples_than_there_are(written):
    path = written([GOOD] * 3)
    assert refusal(path=path, samples=4) == (
        f"task.samples=4 is more than the 3 examples of {path}, split test: ask for 3 or fewer, or leave task.samples "
        "out for all of them."
    )


def test_half_a_character_is_told_with_its_line(written):
    path = written(b'{"source": "Hallo.", "reference": "Hello."}\n{"source": "Hallo \\ud83d", "reference": "Hello."}\n')
    assert refusal(path=path) == (
        f"line 2 of {path} has half a character, '\\ud83d', in the column source: fix or remove the row."
    )


@pytest.mark.parametrize("name", ["own.jsonl", "own.csv", "own.parquet"])
def test_what_git_left_in_the_place_of_the_data_is_refused(written, name):
    path = written("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 24\n", name)
    assert (
        refusal(path=path) == f"{path} is a pointer of Git LFS and not the file itself: fetch it with `git lfs pull`."
    )


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("source, reference", "source, ' reference'."),
        ("source,reference\u200b", "source, 'reference\\u200b'."),
    ],
)
def test_a_column_with_a_mark_that_nobody_sees_is_told(written, header, told):
    path = written(f"{header}\nZwei Hunde.,Two dogs.\n", "own.csv")
    assert refusal(path=path) == (
        f"line 2 of {path} has no column reference: set task.reference_column to one of its columns, which are {told}"
    )


def test_a_column_that_is_there_twice_is_refused(written):
    path = written("source,reference,reference\nZwei Hunde.,Two dogs.,Zwei\n", "own.csv")
    assert refusal(path=path) == f"line 1 of {path} names the column reference twice: rename or remove one."


@pytest.mark.parametrize(
    ("metric", "reference", "cure"),
    [
        ("rouge", "Кошка спит 2 часа.", "unicode"),
        ("rouge", "सुप्रभात संसार।", "unicode"),
        ("bleu", "他在图书馆里读书。", "zh"),
        ("bleu:intl", "他在图书馆里读书。", "zh"),
        ("bleu:zh", "これはねこです。", "char"),
        ("bleu", "สวัสดีชาวโลก", "char"),
        ("bleu", "မင်္ဂလာပါကမ္ဘာလောက", "char"),
        ("bleu", "ｺﾝﾆﾁﾊｾｶｲ", "char"),
    ],
)
def test_a_script_that_the_metric_does_not_see_is_refused_before_anything_is_measured(written, metric, reference, cure):
    path = written([{"source": "Ja.", "reference": reference}])
    assert refusal(path=path, metric=metric) == (
        f"The references of {path}, split test are in a script in which task.metric={metric} sees no words: "
        f"set task.metric={(better := metric.partition(':')[0] + ':' + cure)}."
    )
    assert len(load_task(task("file", path=path, metric=better))) == 1


def test_umlauts_and_cyrillic_bleu_are_seen(written):
    path = written([{"source": "Ja.", "reference": "Füße tun weh."}])
    assert len(load_task(task("file", path=path, metric="rouge"))) == 1
    path = written([{"source": "Ja.", "reference": "Кошка спит."}], "ru.jsonl")
    assert len(load_task(task("file", path=path, metric="bleu"))) == 1


def test_half_a_character_in_an_id_is_told(written):
    path = written(b'{"id": "a\\ud800", "source": "Hallo.", "reference": "Hello."}\n')
    assert "has half a character, '\\ud800', in the column id" in refusal(path=path, id_column="id")


@pytest.mark.parametrize("line", [b"[" * 200_000, b'{"source": ' + b"9" * 5000 + b"}"], ids=["nested", "endless"])
def test_json_that_is_too_much_for_a_reader(written, line):
    path = written(json_lines([GOOD]) + line)
    assert refusal(path=path).startswith(f"line 2 of {path} cannot be read as JSON (")
