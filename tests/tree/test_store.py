"""A tree's files: what a kill tears is cut off, what does not fit together is grown again, damage is told."""

from __future__ import annotations

import gzip
import io
import random
import signal
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from bild import open_tree
from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import Setting
from bild.errors import BildError
from bild.models import load_pair
from bild.tasks import load_task
from bild.tree import grow as growing
from bild.tree import store
from bild.tree.blocks import NODES, BlockFile, read_nodes
from bild.tree.nodes import NodeTable
from tests.results.test_files import mutated
from tests.tree.worlds import EOS, START, World, grown
from tests.zygote import Zygote

POINTS: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(fb, rb)) for fb in (0.25, 0.75) for rb in (0.5, 2.0)]
MORE: list[Setting] = [*POINTS, (MethodConfig("bild", "authors"), ThresholdConfig(0.9, 0.0))]


def growth(seed: int, points: list[Setting], old: NodeTable | None = None) -> NodeTable:
    """A grown example, which knows what the large model has spoken of since it was stored."""
    made = NodeTable(START) if old is None else old
    before = [choice >= 0 for choice in made.large_choice]
    grown(World(seed), points, 20, made)
    now = made.large_choice
    made.heard += [n for n in range(len(now)) if now[n] >= 0 and not (n < len(before) and before[n])]
    return made


def same(a: NodeTable, b: NodeTable) -> bool:
    left, right = vars(a.columns()), vars(b.columns())
    return all(np.array_equal(column, right[name], equal_nan=True) for name, column in left.items())


def read(folder: Path, count: int = 2) -> list[NodeTable]:
    return read_nodes(folder, count, START)


def test_blocks_come_back_as_they_went_in_and_add_up(tmp_path: Path) -> None:
    growths = {0: growth(5, POINTS), 1: growth(0, POINTS)}
    with BlockFile(tmp_path / "nodes.bin") as file:
        file.append(growths)
        first = file.path.stat().st_size
        file.append(growths)
        assert file.path.stat().st_size == first
        growth(0, MORE, growths[1])
        file.append(growths)
        assert file.path.stat().st_size > first
    for i, found in enumerate(read(tmp_path)):
        assert same(found, growths[i])
        assert found.small_child == growths[i].small_child
        assert found.large_child == growths[i].large_child
        assert not found.dirty


def test_a_torn_tail_is_cut_off_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "nodes.bin"
    with BlockFile(path) as file:
        file.append({0: growth(0, POINTS)})
        whole = path.read_bytes()
        file.append({1: growth(1, POINTS)})
    longer = path.read_bytes()
    for end in [len(whole) + 1, len(whole) + 19, *random.Random(0).sample(range(len(whole), len(longer)), 10)]:
        path.write_bytes(longer[:end])
        assert not read(tmp_path)[1].stored
        with BlockFile(path):
            assert path.read_bytes() == whole
    path.write_bytes(longer[:-3] + b"abc")
    assert read(tmp_path)[0].stored
    assert not read(tmp_path)[1].stored


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """A file of five blocks, one an example, and where each ends. The middle one holds what example 0 grew later."""
    path = tmp_path_factory.mktemp("blocks") / "nodes.bin"
    ends, first = [], growth(0, POINTS)
    with BlockFile(path) as file:
        for index, made in enumerate((first, growth(1, POINTS), first, growth(3, POINTS), growth(4, POINTS))):
            file.append({0 if index == 2 else index: growth(0, MORE, made) if index == 2 else made})
            ends.append(path.stat().st_size)
    return path.read_bytes(), ends


@pytest.mark.parametrize("block", range(5))
def test_one_flipped_bit_costs_one_block_and_is_told(
    tmp_path: Path, block: int, blocks: tuple[bytes, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, ends = blocks
    start = ends[block - 1] if block else 0
    dice, path = random.Random(block), tmp_path / "nodes.bin"
    lost = {0: {0}, 1: {1}, 2: set(), 3: {3}, 4: {4}}[block]  # example 0 is complete without what it grew later
    head = [start, start + 9, start + 15, start + 17]  # of the magic word, the size (twice), the checksum
    for at in [*(head if block < 4 else []), *dice.sample(range(start + 20, ends[block]), 3)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << dice.randrange(8))]) + whole[at + 1 :])
        damaged = path.read_bytes()
        assert {i for i, found in enumerate(read(tmp_path, 5)) if not found.stored} == lost | {2}
        assert "1 of 5 blocks are damaged and left out; a sweep grows them again" in capsys.readouterr().err
        with BlockFile(path) as file:
            assert path.read_bytes() == damaged  # nothing is cut off
            left = read(tmp_path, 5)
            file.append({i: growth(i, MORE if i == 0 else POINTS, left[i]) for i in (0, 1, 3, 4)})
        again = read(tmp_path, 5)
        for i in (0, 1, 3, 4):
            assert same(again[i], growth(0, MORE, growth(0, POINTS)) if i == 0 else growth(i, POINTS))


def test_a_block_after_a_lost_one_is_not_put_on_other_nodes(tmp_path: Path) -> None:
    """The lost block is grown again with as many nodes, which are others: what continued it must not continue them."""
    path, made = tmp_path / "nodes.bin", growth(0, POINTS)
    other = next(found for found in (growth(seed, POINTS) for seed in range(1, 999)) if len(found) == len(made))
    with BlockFile(path) as file:
        file.append({0: made})
        end = path.stat().st_size
        file.append({0: growth(0, MORE, made)})
    later = path.read_bytes()[end:]
    assert len(read(tmp_path)[0]) > len(other)
    path.unlink()
    with BlockFile(path) as file:
        file.append({0: other})
    path.write_bytes(path.read_bytes() + later)
    assert same(read(tmp_path)[0], other)


def test_whatever_a_block_holds_is_read_or_left_out(tmp_path: Path, blocks: tuple[bytes, list[int]]) -> None:
    whole, path, dice = blocks[0], tmp_path / "nodes.bin", random.Random(0)
    for _ in range(25):
        path.write_bytes(mutated(whole, dice))
        with BlockFile(path):
            assert len(read(tmp_path, 5)) == 5
    assert not any(found.stored for found in read(tmp_path, 0))  # of more examples than the tree has
    with np.load(io.BytesIO(whole[20 : blocks[1][0]])) as stored:
        good = dict(stored)
    off = [zipped(**(good | {"heads": good["heads"] + change})) for change in ([[0, 0, 1, 0]], [[0, 0, 0, 1]])]
    off += [zipped(**(good | {"parent": good["parent"][1:]})), zipped(**(good | {"heads": -good["heads"]}))]
    none = (b"", b"no archive", zipped(token=np.zeros(3)), zipped(heads=np.zeros((1, 4), np.int64)))
    for payload in (*none, *off):
        path.write_bytes(struct.pack("<8sQI", b"bildtree", len(payload), zlib.crc32(payload)) + payload)
        assert not read(tmp_path)[0].stored


def zipped(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("name", [store.TREE, store.EXAMPLES])
def test_mutated_files_of_a_tree_are_read_or_refused(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path / "a")
    whole, refused = (tmp_path / "a" / name).read_bytes(), 0
    texts = [mutated(whole, random.Random(seed)) for seed in range(60)]
    if name == store.EXAMPLES:
        texts += [gzip.compress(mutated(gzip.decompress(whole), random.Random(seed))) for seed in range(60)]
    for text in [*texts, b"[" * 200_000, gzip.compress(b"[" * 200_000)]:
        (tmp_path / "a" / name).write_bytes(text)
        try:
            assert len(open_tree(tmp_path).examples) in (1, 2)
        except BildError as error:
            refused += "\n" not in str(error)
    assert refused > 30


def test_two_files_fit_together_whichever_is_read_first(tmp_path: Path) -> None:
    made = growth(0, POINTS)
    with BlockFile(tmp_path / "nodes-w1.bin") as file:
        file.append({0: made})
    with BlockFile(tmp_path / "nodes-w0.bin") as file:
        file.append({0: growth(0, MORE, made)})
    assert same(read(tmp_path)[0], made)
    with BlockFile(tmp_path / "nodes-w2.bin") as file:  # grew the same example from its root at the same time
        file.append({0: growth(0, POINTS)})
    assert same(read(tmp_path)[0], made)


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    with (
        BlockFile(tmp_path / "nodes.bin"),
        pytest.raises(BildError, match="Another process is growing"),
        BlockFile(tmp_path / "nodes.bin"),
    ):
        pass


def test_a_folder_without_a_tree_or_with_several_is_told(tmp_path: Path) -> None:
    with pytest.raises(BildError, match="There is no decision tree in"):
        open_tree(tmp_path)
    for name in ("a", "b"):
        make_folder(tmp_path / name)
    with pytest.raises(BildError, match=r"There are 2 decision trees in .*: open one of a, b"):
        open_tree(tmp_path)
    assert len(open_tree(tmp_path / "a").examples) == 1
    (tmp_path / "a" / store.EXAMPLES).write_bytes(b"no gzip")
    with pytest.raises(BildError, match="is damaged"):
        open_tree(tmp_path / "a")
    (tmp_path / "a" / store.EXAMPLES).write_bytes(gzip.compress(b""))
    with pytest.raises(BildError, match=r"is damaged .it holds no example.: delete the tree's folder"):
        open_tree(tmp_path / "a")
    (tmp_path / "a" / store.TREE).write_text("{}")
    with pytest.raises(BildError, match="does not describe a tree"):
        open_tree(tmp_path / "a")


def make_folder(folder: Path) -> None:
    folder.mkdir()
    more = {"ids": {"start": START, "eos": EOS, "vocabulary": 9}, "rounding": {"nll": 0.0, "gap": 0.0}}
    example = store.StoredExample("e0", "ein Haus", "a house", [5, EOS], False)
    store.create(folder, {"task": {"target_limit": 20, "metric": "bleu"}}, more, [example], "{}")


EXAMPLES = 8


def grow_embedded() -> None:
    """Grow a tree of the embedded pair in the folder that the command line names, two examples at a time."""
    growing.CHUNK = 2
    task = TaskConfig(samples=EXAMPLES, target_limit=20)
    points = [(MethodConfig("bild"), ThresholdConfig(fb, rb)) for fb in (0.3, 0.7) for rb in (1.0, 4.0)]
    growing.grow(Path(sys.argv[1]), load_pair("embedded", device="cpu"), task, load_task(task), points)


@pytest.mark.slow
def test_killed_growths_end_with_the_tree_of_one_that_was_not(mother: Zygote, tmp_path: Path) -> None:
    """Each is killed in the middle of a write, by a limit on the size of files, whatever the machine's pace."""

    def ended(name: str, death: str = "whole", size: int = 0) -> int:
        grow = ("tests.tree.test_store:grow_embedded", str(tmp_path / name))
        return mother.start("tests.killing:main", death, str(size), *grow, cwd=tmp_path).wait()

    assert ended("whole") == 0, (tmp_path / "log").read_text()
    (nodes,) = (tmp_path / "whole").rglob(NODES)
    dice, length = random.Random(4), nodes.stat().st_size
    sizes = [(part * length + dice.randrange(length)) // 5 for part in range(4)]
    assert [ended("killed", "size", size) for size in sizes] == [-signal.SIGXFSZ] * 4, (tmp_path / "log").read_text()
    assert ended("killed") == 0, (tmp_path / "log").read_text()
    whole, torn = open_tree(tmp_path / "whole"), open_tree(tmp_path / "killed")
    assert len(whole.examples) == EXAMPLES
    for a, b in zip(whole.examples, torn.examples, strict=True):
        assert same(a.table, b.table)
    names = {file.relative_to(tmp_path / "whole") for file in (tmp_path / "whole").rglob("*") if file.is_file()}
    assert names == {
        file.relative_to(tmp_path / "killed") for file in (tmp_path / "killed").rglob("*") if file.is_file()
    }
