"""Files of a run: no link is followed, nothing is half written, and whatever lies there ends in one sentence."""

from __future__ import annotations

import errno
import gzip
import os
import random
import resource
from pathlib import Path

import pytest
import torch

from bild.errors import BildError
from bild.results import find_records, read_samples, read_traces
from bild.results.files import GrowingFile, open_plain, parse, read_file, unpack, write_atomically
from bild.results.record import to_json
from tests.fuzzing import KINDS, fuzz
from tests.records import make_record
from tests.results.points import DIGEST, expected, fill, open_point


def test_no_link_is_opened_and_no_pipe_waited_for(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        for opened in (open_plain, GrowingFile):
            with pytest.raises(OSError, match=r"symbolic|plain file"):
                opened(tmp_path / name)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", [".lock", "samples.jsonl", "trace.jsonl.gz"])
def test_a_point_whose_files_are_links_is_refused(tmp_path: Path, name: str) -> None:
    path = fill(tmp_path, 1)
    (tmp_path / "victim").write_text("precious")
    (path / name).unlink()
    (path / name).symlink_to(tmp_path / "victim")
    with pytest.raises(BildError, match="written"):
        open_point(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("name", ["config.yaml", "record.json"])
def test_a_link_where_a_file_is_written_is_replaced(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = fill(tmp_path, 1)
    for place in (name, f".{name}.tmp"):
        (path / place).unlink(missing_ok=True)
        (path / place).symlink_to(victim)
    with open_point(tmp_path) as folder:
        folder.clear()
    with open_point(tmp_path) as folder:
        folder.finish(make_record(hash=DIGEST))
    assert victim.read_text() == "precious"
    assert not (path / name).is_symlink()


def test_a_full_disk_is_told_where_a_library_hides_it(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(BildError, match="disk is full; what was written before is kept"):
            write_atomically(tmp_path / "state.pt", lambda file: torch.save(torch.zeros(100_000), file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_on_the_disk_leaves_a_growing_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        if at > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[:3], at)

    file = GrowingFile(tmp_path / "file")
    file.append(b"abc")
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="space"):
        file.append(b"defghi")
    assert (tmp_path / "file").read_bytes() == b"abc"
    monkeypatch.undo()
    file.append(b"d")
    assert (tmp_path / "file").read_bytes() == b"abcd"


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(1 << 22))
    assert len(unpack(bomb)) == 1 << 22
    with pytest.raises(ValueError, match="holds more than 1000000 bytes"):
        unpack(bomb, 1_000_000)


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b"9" * 5000, b"\xff", b"", b"{", b"[1,]"])
def test_whatever_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_a_key_that_stands_twice_in_one_object_is_refused() -> None:
    assert parse('{"a": 1, "b": {"a": 2}, "c": [{"a": 3}, {"a": 4}]}')["b"] == {"a": 2}
    for text in ('{"a": 1, "b": {"c": 2}, "a" : 1}', '{"x": [{"a": 1, "a": 1}]}'):
        with pytest.raises(ValueError, match=r"the key 'a' stands twice in one object$"):
            parse(text.encode())


HOSTILE = {
    "twice": b'{"schema": 3,\n"schema": 3}',
    "nested": b"[" * 200_000,
    "huge": b'{"schema": ' + b"9" * 4000 + b"}",
    "endless": b'{"schema": ' + b"9" * 5000 + b"}",
    "surrogate": b'"\\ud800"',
    "bytes": b"\xff\xfe\x00",
    "empty": b"",
}


def read_by_name(root: Path, path: Path) -> None:
    if path.name in ("samples.jsonl", "trace.jsonl.gz"):
        read_traces(path.parent)
    with open_point(root) as folder:
        {"draft_costs.json": folder.draft_costs, "kernels.json": folder.kernels}.get(path.name, folder.record)()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["record.json", "draft_costs.json", "kernels.json", "samples.jsonl", "trace.jsonl.gz"])
def test_hostile_files_end_in_one_sentence_that_names_them(tmp_path: Path, name: str, text: bytes) -> None:
    if (name, text) == ("kernels.json", HOSTILE["huge"]):
        pytest.skip("it holds whatever a choice of kernels is made of")
    path = fill(tmp_path, 1)
    # A torn last line of samples is passed over, so the hostile one stands before another.
    hostile = text + b"\n" + text + b"\n" if name == "samples.jsonl" else text
    (path / name).write_bytes(gzip.compress(hostile) if name.endswith("gz") and text else hostile)
    with pytest.raises(BildError, match=name) as caught:
        read_by_name(tmp_path, path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Some bytes flipped, a stretch lost, a stretch doubled, or another number."""
    kind, at = dice.randrange(4), dice.randrange(len(data))
    end = min(len(data), at + dice.randrange(1, 40))
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:end] + data[at:]
    digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57] or [at]
    at = dice.choice(digits)
    return data[:at] + dice.choice([b"-1", b"1e999", b"9" * 30, b"null", b'"x"', b"[]"]) + data[at + 1 :]


def read_point(path: Path) -> None:
    find_records(path)
    read_samples(path)
    read_traces(path)


@pytest.mark.parametrize("name", ["record.json", "samples.jsonl", "trace.jsonl.gz"])
def test_mutated_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    path = fill(tmp_path, 3)
    (path / "record.json").write_text(to_json(make_record(hash=DIGEST)))
    whole, refused = (path / name).read_bytes(), 0
    for seed in range(150):
        text = mutated(gzip.decompress(whole) if name.endswith("gz") and seed % 2 else whole, random.Random(seed))
        (path / name).write_bytes(gzip.compress(text) if name.endswith("gz") and seed % 2 else text)
        try:
            read_point(path)
        except BildError as error:
            refused += "\n" not in str(error)
    assert refused > 20 or name == "record.json"  # a broken record is named in a list


@pytest.mark.spread(3)
@pytest.mark.parametrize("name", KINDS)
def test_damaged_and_hostile_files_of_every_kind_are_read_or_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    assert fuzz(name, tmp_path, range(6)) == []  # scripts/fuzz_files.py has thousands


def test_reading_alone_changes_nothing(tmp_path: Path) -> None:
    path = fill(tmp_path, 2)
    with (path / "samples.jsonl").open("ab") as file:
        file.write(b'{"torn')
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    assert (read_samples(path), read_traces(path)) == expected(2)
    assert {each.name: each.read_bytes() for each in path.iterdir()} == before


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(BildError, match=r"could not be read .No such file"):
        read_file(tmp_path / "nothing")
