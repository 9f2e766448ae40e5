"""Loading a task, through the public door."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys

import pandas
import pytest

from bild.tasks import Dataset, Example, load_task
from tests.hubcache import commit_of, hub_env
from tests.tasks.compose import task
from tests.tinydata import articles, data_rows, json_lines, parquet

ROWS = [{"source": f"Satz {i}.", "reference": f"Sentence {i}.", "id": f"s{i}"} for i in range(40)]


@pytest.fixture
def sentences(tmp_path):
    """A JSON Lines file of 40 pairs."""
    path = tmp_path / "sentences.jsonl"
    path.write_bytes(json_lines(ROWS))
    return path


def ids(dataset: Dataset) -> list[str]:
    return [example.id for example in dataset]


# --- what comes with the package


@pytest.mark.parametrize(
    ("name", "split", "rows"),
    [("embedded", "choose", 620), ("embedded", "confirm", 660), ("embedded-news", "test", 48)],
)
def test_embedded_data_are_whole(name, split, rows):
    dataset = load_task(task(name, split=split))
    assert len(dataset) == dataset.provenance["total"] == rows
    assert len(set(ids(dataset))) == len({example.source for example in dataset}) == len(dataset)
    assert dataset.provenance["where"] == "embedded in the package"
    assert dataset.provenance["revision"] is None


def test_captions_that_confirm_a_choice_are_none_that_it_was_made_on():
    composed = task("embedded")
    chosen_on, confirmed_on = (load_task(task("embedded", split=name)) for name in (composed.split, composed.confirm))
    for part in ("id", "source", "reference"):
        assert not {getattr(e, part) for e in chosen_on} & {getattr(e, part) for e in confirmed_on}
    assert not word_runs(chosen_on, 8) & word_runs(confirmed_on, 8)


def word_runs(dataset: Dataset, words: int) -> set[tuple[str, ...]]:
    """Every run of so many words in the sources."""
    texts = [re.findall(r"\w+", example.source.lower()) for example in dataset]
    return {tuple(text[at : at + words]) for text in texts for at in range(len(text) - words + 1)}


# --- the hub, offline


@pytest.mark.parametrize("name", ["iwslt2017", "wmt14"])
def test_translation_tasks_of_the_paper(hub, name):
    dataset = load_task(task(name))
    expected = data_rows("validation")
    assert dataset.examples == tuple(
        Example(f"validation-{i}", german, english) for i, (german, english) in enumerate(expected)
    )


def test_xsum(hub):
    dataset = load_task(task("xsum"))
    assert [(e.source, e.reference) for e in dataset] == [
        (row["article"], row["highlights"].split("\n")[0]) for row in articles("validation")
    ]


def test_cnndm_keeps_the_line_ends_of_the_highlights(hub):
    dataset = load_task(task("cnndm"))
    assert [e.reference for e in dataset] == [row["highlights"] for row in articles("validation")]
    assert all("\n" in e.reference for e in dataset)


@pytest.mark.parametrize(("split", "rows"), [("train", 8), ("validation", 6), ("test", 4)])
def test_multi30k(hub, split, rows):
    dataset = load_task(task("multi30k", split=split))
    assert [(e.source, e.reference) for e in dataset] == data_rows(split)
    assert len(dataset) == rows


def test_validation_is_found_under_its_short_name_too(hub):
    assert load_task(task("multi30k", files={}, split="validation")).provenance["files"] == ["val.jsonl"]


def test_shards_are_read_in_order(hub):
    assert [(e.source, e.reference) for e in load_task(task("wmt14", split="train"))] == data_rows("train")


@pytest.mark.parametrize(
    ("name", "revision"),
    [("iwslt2017", "refs/convert/parquet"), ("wmt14", "main"), ("xsum", "main"), ("cnndm", "main")],
)
def test_the_commit_is_recorded(hub, name, revision):
    composed = task(name)
    provenance = load_task(composed).provenance
    assert provenance["revision"] == commit_of(composed.path, revision)
    assert re.fullmatch(r"[0-9a-f]{40}", provenance["revision"])
    assert provenance["where"] == "Hugging Face hub"


def test_provenance_says_what_was_chosen(hub):
    dataset = load_task(task("cnndm", samples=4, seed=7))
    assert dataset.provenance == {
        "where": "Hugging Face hub",
        "path": "abisee/cnn_dailymail",
        "config": "3.0.0",
        "revision": commit_of("abisee/cnn_dailymail"),
        "files": ["3.0.0/validation-00000-of-00001.parquet"],
        "split": "validation",
        "total": 6,
        "known_total": 13368,
        "blank": 0,
        "samples": 4,
        "seed": 7,
        "hash": dataset.provenance["hash"],
    }
    assert json.loads(json.dumps(dataset.provenance)) == dataset.provenance


@pytest.mark.slow
def test_a_fresh_process_needs_no_network_and_leaves_the_cache_alone(hub_cache):
    before = sorted(hub_cache.rglob("*"))
    code = (
        "from tests.tasks.compose import task; from bild.tasks import load_task;"
        "print(*[len(load_task(task(name))) for name in ('iwslt2017', 'wmt14', 'xsum', 'cnndm', 'multi30k')])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=hub_env(hub_cache), capture_output=True, text=True)
    assert done.stdout.split() == ["6", "6", "6", "6", "6"], done.stderr
    assert sorted(hub_cache.rglob("*")) == before


# --- one's own files


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_file_formats_say_the_same(tmp_path, suffix):
    rows = [
        {"de": "Sagte er „nein“, oder?", "en": 'Did he say "no", or?'},
        {"de": "Zwei Räder", "en": "Two wheels"},
    ]
    path = tmp_path / f"own{suffix}"
    if suffix in (".csv", ".tsv"):
        pandas.DataFrame(rows).to_csv(path, index=False, sep="," if suffix == ".csv" else "\t", quoting=0)
        if suffix == ".tsv":  # no quoting in a TSV: quotation marks are text
            path.write_text("de\ten\n" + "".join(f"{row['de']}\t{row['en']}\n" for row in rows), encoding="utf-8")
    else:
        path.write_bytes(parquet(rows) if suffix == ".parquet" else json_lines(rows))
    dataset = load_task(task("file", path=str(path), source_column="de", reference_column="en"))
    assert dataset.examples == tuple(Example(f"test-{i}", row["de"], row["en"]) for i, row in enumerate(rows))


def test_a_csv_cell_may_hold_line_ends_and_a_long_document(tmp_path):
    rows = [{"source": "long " * 50_000, "reference": "first\nsecond"}]
    path = tmp_path / "own.csv"
    pandas.DataFrame(rows).to_csv(path, index=False)
    (example,) = load_task(task("file", path=str(path)))
    assert (example.source, example.reference) == (rows[0]["source"], rows[0]["reference"])


def test_a_tsv_field_may_start_with_a_quotation_mark(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text('source\treference\n"Halt!", rief er.\t"Stop!" he cried.\n', encoding="utf-8")
    (example,) = load_task(task("file", path=str(path)))
    assert (example.source, example.reference) == ('"Halt!", rief er.', '"Stop!" he cried.')


def test_texts_stay_as_they_are(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_bytes(json_lines([{"source": " ein\u2028Satz \n", "reference": "\ta sentence "}]))
    (example,) = load_task(task("file", path=str(path)))
    assert (example.source, example.reference) == (" ein\u2028Satz \n", "\ta sentence ")


def test_byte_order_mark_windows_line_ends_and_empty_lines_are_no_trouble(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json_lines(ROWS[:2]).replace(b"\n", b"\r\n\r\n"))
    assert [e.source for e in load_task(task("file", path=str(path)))] == ["Satz 0.", "Satz 1."]


def test_nested_columns_and_a_name_with_a_dot(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_bytes(json_lines([{"pair": {"text": {"de": "Ja"}}, "pair.en": "Yes"}]))
    (example,) = load_task(task("file", path=str(path), source_column="pair.text.de", reference_column="pair.en"))
    assert (example.source, example.reference) == ("Ja", "Yes")


def test_a_folder_of_splits(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(json_lines(ROWS[:3]))
    (tmp_path / "dev.csv").write_text("source,reference\nJa,Yes\n")
    assert len(load_task(task("file", path=str(tmp_path), split="train"))) == 3
    assert [e.reference for e in load_task(task("file", path=str(tmp_path), split="validation"))] == ["Yes"]


def test_files_of_ones_own_naming(tmp_path):
    (tmp_path / "part-b.jsonl").write_bytes(json_lines(ROWS[3:5]))
    (tmp_path / "part-a.jsonl").write_bytes(json_lines(ROWS[:3]))
    dataset = load_task(task("file", path=str(tmp_path), files={"test": "part-*.jsonl"}, id_column="id"))
    assert ids(dataset) == ["s0", "s1", "s2", "s3", "s4"]
    assert dataset.provenance["files"] == ["part-a.jsonl", "part-b.jsonl"]


def test_a_path_with_wildcard_characters_is_taken_literally(tmp_path):
    folder = tmp_path / "runs [old] *"
    folder.mkdir()
    (folder / "own.parquet").write_bytes(parquet(ROWS[:2]))
    assert len(load_task(task("file", path=str(folder / "own.parquet")))) == 2


def test_a_home_relative_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.jsonl").write_bytes(json_lines(ROWS[:2]))
    assert len(load_task(task("file", path="~/own.jsonl"))) == 2


def test_ids_may_be_numbers(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_bytes(json_lines([{**ROWS[0], "id": 17}]))
    assert ids(load_task(task("file", path=str(path), id_column="id"))) == ["17"]


# --- sub-samples


def test_a_sample_keeps_the_order_of_the_data(sentences):
    chosen = ids(load_task(task("file", path=str(sentences), id_column="id", samples=15)))
    assert len(chosen) == len(set(chosen)) == 15
    assert chosen == sorted(chosen, key=lambda name: int(name[1:]))


def test_samples_are_nested(sentences):
    chosen = [
        set(ids(load_task(task("file", path=str(sentences), id_column="id", samples=n, seed=3))))
        for n in (1, 5, 20, 40)
    ]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]


def test_seeds_choose_differently_and_repeatably(sentences):
    def chosen(seed: int) -> list[str]:
        return ids(load_task(task("file", path=str(sentences), id_column="id", samples=10, seed=seed)))

    assert chosen(0) == chosen(0)
    assert len({tuple(chosen(seed)) for seed in range(5)}) == 5


def test_the_choice_is_by_hash_of_seed_and_id_so_it_never_changes(sentences):
    ranked = sorted((f"s{i}" for i in range(40)), key=lambda name: hashlib.sha256(f"5:{name}".encode()).digest())
    chosen = ids(load_task(task("file", path=str(sentences), id_column="id", samples=6, seed=5)))
    assert set(chosen) == set(ranked[:6])


def test_a_sample_of_everything_is_everything(sentences):
    whole = load_task(task("file", path=str(sentences)))
    assert load_task(task("file", path=str(sentences), samples=40, seed=9)).examples == whole.examples
    assert whole.provenance["samples"] == 40


# --- the fingerprint


def test_the_hash_is_of_the_chosen_texts_only(tmp_path, sentences):
    copy = tmp_path / "elsewhere.csv"
    pandas.DataFrame(ROWS).to_csv(copy, index=False)
    one = load_task(task("file", path=str(sentences), samples=10)).provenance
    other = load_task(task("file", path=str(copy), samples=10)).provenance
    assert one["hash"] == other["hash"]
    assert re.fullmatch(r"[0-9a-f]{64}", one["hash"])


@pytest.mark.parametrize("field", ["id", "source", "reference"])
def test_the_hash_sees_every_field(tmp_path, sentences, field):
    other = tmp_path / "other.jsonl"
    other.write_bytes(json_lines([{**ROWS[0], field: ROWS[0][field] + "x"}, *ROWS[1:]]))
    hashes = {load_task(task("file", path=str(p), id_column="id")).provenance["hash"] for p in (sentences, other)}
    assert len(hashes) == 2


def test_the_hash_does_not_run_fields_together(tmp_path):
    hashes = set()
    for i, (source, reference) in enumerate([("a b", "c"), ("a", "b c")]):
        path = tmp_path / f"{i}.jsonl"
        path.write_bytes(json_lines([{"source": source, "reference": reference}]))
        hashes.add(load_task(task("file", path=str(path))).provenance["hash"])
    assert len(hashes) == 2


def test_published_data_may_have_blank_texts_and_say_so(hub, monkeypatch, tmp_path):
    from tests import hubcache

    root = tmp_path / "hf"
    rows = [{"document": "", "summary": "A summary."}, {"document": "Text.", "summary": "Other."}]
    hubcache.add_repository(
        root, "EdinburghNLP/xsum", {"data/validation-00000-of-00001.parquet": parquet(rows)}, kind="datasets"
    )
    hubcache.use_hub(monkeypatch, root)
    dataset = load_task(task("xsum"))
    assert [e.source for e in dataset] == ["", "Text."]
    assert dataset.provenance["blank"] == 1
