"""The tests' hub cache is one that the libraries take for real."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from tests import hubcache
from tests.tinymodels import english_size, multilingual_size

CHECKPOINTS = (*hubcache.TRANSLATION, *hubcache.SUMMARISATION, *hubcache.PRETRAINED)


def test_the_names_are_the_published_ones():
    assert len(set(CHECKPOINTS)) == 18
    assert "kssteven/mT5-small-iwslt2017-de-en-bild-aligned" in CHECKPOINTS
    assert "kssteven/mT5-large-wmt2014-de-en" in CHECKPOINTS
    assert "kssteven/T5-small-cnndm" in CHECKPOINTS
    assert "google/mt5-base" in CHECKPOINTS
    assert "google-t5/t5-large" in CHECKPOINTS


def test_building_it_is_quick(tmp_path):
    import torch  # noqa: F401, pickles take it along

    start = time.process_time()  # of this process alone, whatever else the machine does
    hubcache.build_hub(tmp_path)
    assert time.process_time() - start < 10.0


def test_the_client_finds_no_fault_with_it(hub):
    report = scan_cache_dir(hub / "hub")
    assert not report.warnings
    found = {(repo.repo_type, repo.repo_id) for repo in report.repos}
    assert found >= {("model", name) for name in CHECKPOINTS} | {("dataset", "IWSLT/iwslt2017")}


def test_the_client_serves_snapshots_offline(hub):
    folder = snapshot_download("kssteven/T5-large-xsum")
    assert re.search(r"/models--kssteven--T5-large-xsum/snapshots/[0-9a-f]{40}$", folder)
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("kssteven/T5-large-elsewhere")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_checkpoint_loads_whole(hub, name):
    import torch
    from transformers import AutoModelForSeq2SeqLM

    model, report = AutoModelForSeq2SeqLM.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    multilingual = "mt5" in name.lower()
    assert model.config.model_type == ("mt5" if multilingual else "t5")
    assert model.config.decoder_start_token_id == 0
    assert torch.equal(model.lm_head.weight, model.shared.weight) is not multilingual
    rows = model.shared.weight.shape[0]
    if not multilingual:
        assert rows == english_size() + 28
    else:
        assert rows == multilingual_size() + (12 if name.startswith("google/") else 0)


def test_models_of_one_shape_differ(hub):
    folders = [snapshot_download(name) for name in hubcache.TRANSLATION]
    weights = {file.read_bytes() for folder in folders for file in [*Path(folder).glob("pytorch_model*.bin")][:1]}
    assert len(weights) == len(hubcache.TRANSLATION)


@pytest.mark.parametrize(
    ("name", "size"), [("google/mt5-small", multilingual_size()), ("kssteven/T5-small-xsum", english_size())]
)
def test_tokenizers_load_offline_and_add_the_end_of_the_sequence(hub, name, size):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    assert len(tokenizer) == size
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    text = "summarize: A dog is running across the wet meadow."
    ids = tokenizer(text).input_ids
    assert ids[-1] == 1
    assert 1 not in ids[:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_pieces_of_mt5_are_sentencepieces_own(hub):
    import sentencepiece
    from transformers import AutoTokenizer

    folder = snapshot_download("google/mt5-small")
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/spiece.model")
    text = "Zwei Männer  spielen im Park Fußball."
    assert AutoTokenizer.from_pretrained("google/mt5-small")(text).input_ids == [*processor.encode(text), 1]


def test_the_fine_tuned_mt5_come_without_a_tokenizer(hub):
    files = {file.name for file in Path(snapshot_download(hubcache.TRANSLATION[0])).iterdir()}
    assert files == {"config.json", "generation_config.json", "pytorch_model.bin"}
