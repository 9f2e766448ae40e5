"""Tiny random checkpoints and tokenizers in the formats of the published T5 and mT5 ones, without torch."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tests.tinydata import PAIRS

LOUD, SHARP = 6.0, 3.0


@dataclass(frozen=True)
class Shape:
    """The sizes of a tiny T5; `gated` and `untied` as mT5 has them."""

    rows: int
    layers: int
    gated: bool
    untied: bool
    d_model: int = 32
    d_kv: int = 8
    heads: int = 4
    d_ff: int = 64
    buckets: int = 32


def checkpoint_files(shape: Shape, seed: int, weights: str = "safetensors") -> dict[str, bytes]:
    """The files of a checkpoint: configuration, generation configuration, weights (see `weight_files`)."""
    return {
        "config.json": to_json(_model_config(shape)),
        "generation_config.json": to_json({"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}),
        **weight_files(random_weights(shape, seed), weights, tied=not shape.untied),
    }


def weight_files(weights: dict[str, np.ndarray], kind: str, *, tied: bool) -> dict[str, bytes]:
    """Weights as they are published: "safetensors" or "pickle", or in two "sharded-..." files with their index."""
    format_, name = (
        (_pickle, "pytorch_model{}.bin") if kind.endswith("pickle") else (_safetensors, "model{}.safetensors")
    )
    if not kind.startswith("sharded-"):
        return {name.format(""): format_(weights, tied)}
    names = sorted(weights)
    parts = [names[::2], names[1::2]]
    shards = {name.format(f"-0000{i}-of-00002"): part for i, part in enumerate(parts, 1)}
    files = {file: format_({key: weights[key] for key in part}, tied) for file, part in shards.items()}
    places = {key: file for file, part in shards.items() for key in part}
    return files | {f"{name.format('')}.index.json": to_json({"metadata": {"total_size": 1}, "weight_map": places})}


def _model_config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["MT5ForConditionalGeneration" if shape.gated else "T5ForConditionalGeneration"],
        "model_type": "mt5" if shape.gated else "t5",
        "d_model": shape.d_model,
        "d_kv": shape.d_kv,
        "d_ff": shape.d_ff,
        "num_heads": shape.heads,
        "num_layers": shape.layers,
        "num_decoder_layers": shape.layers,
        "relative_attention_num_buckets": shape.buckets,
        "feed_forward_proj": "gated-gelu" if shape.gated else "relu",
        "tie_word_embeddings": not shape.untied,
        "tokenizer_class": "T5Tokenizer",
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-06,
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "use_cache": True,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "vocab_size": shape.rows,
    }


def random_weights(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """The weights by their names in a checkpoint, drawn with T5's own scales.

    But where the head is tied, the layers write louder and the last norm is sharper: else a random T5 only repeats the
    token it was given, with next to no confidence.
    """
    generator = np.random.default_rng(seed)
    inner, width = shape.heads * shape.d_kv, shape.d_model
    loud, sharp = (1.0, 1.0) if shape.untied else (LOUD, SHARP)
    weights: dict[str, np.ndarray] = {}

    def draw(name: str, rows: int, columns: int, scale: float) -> None:
        weights[f"{name}.weight"] = (scale * generator.standard_normal((rows, columns))).astype(np.float32)

    def attention(prefix: str) -> None:
        draw(f"{prefix}.q", inner, width, (width * shape.d_kv) ** -0.5)
        draw(f"{prefix}.k", inner, width, width**-0.5)
        draw(f"{prefix}.v", inner, width, width**-0.5)
        draw(f"{prefix}.o", width, inner, loud * inner**-0.5)

    def norm(prefix: str) -> None:
        weights[f"{prefix}layer_norm.weight"] = np.ones(width, np.float32)

    draw("shared", shape.rows, width, 1.0)
    if shape.untied:
        draw("lm_head", shape.rows, width, 0.5)
    for stack, blocks in (("encoder", ("SelfAttention",)), ("decoder", ("SelfAttention", "EncDecAttention"))):
        for layer in range(shape.layers):
            prefix = f"{stack}.block.{layer}.layer"
            for index, block in enumerate(blocks):
                attention(f"{prefix}.{index}.{block}")
                norm(f"{prefix}.{index}.")
            last = f"{prefix}.{len(blocks)}"
            for name in ("wi_0", "wi_1") if shape.gated else ("wi",):
                draw(f"{last}.DenseReluDense.{name}", shape.d_ff, width, width**-0.5)
            draw(f"{last}.DenseReluDense.wo", width, shape.d_ff, loud * shape.d_ff**-0.5)
            norm(f"{last}.")
        draw(f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias", shape.buckets, shape.heads, width**-0.5)
        norm(f"{stack}.final_")
    weights["decoder.final_layer_norm.weight"] *= np.float32(sharp)
    return weights


def _pickle(weights: dict[str, np.ndarray], tied: bool) -> bytes:
    """As the library's Trainer of 2023 wrote it: an embedding has all of its names, which share their memory."""
    import torch

    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    if "shared.weight" in state:
        for name in ("encoder.embed_tokens", "decoder.embed_tokens", *["lm_head"] * tied):
            state[f"{name}.weight"] = state["shared.weight"]
    written = io.BytesIO()
    torch.save(state, written)
    return written.getvalue()


def _safetensors(weights: dict[str, np.ndarray], tied: bool) -> bytes:
    from safetensors.numpy import save

    return save(weights, metadata={"format": "pt"})


@cache
def sentencepiece_model(*, byte_fallback: bool) -> bytes:
    """A unigram model trained on the spot, with T5's special pieces: <pad> 0, </s> 1, <unk> 2."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for pair in PAIRS for text in pair] + ["summarize: "]),
        model_writer=written,
        model_type="unigram",
        vocab_size=500,
        hard_vocab_limit=False,
        byte_fallback=byte_fallback,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def _pieces(model: bytes) -> list[tuple[str, float]]:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]


def multilingual_size() -> int:
    """Tokens of mT5's tiny tokenizer."""
    return len(_pieces(sentencepiece_model(byte_fallback=True)))


def english_size() -> int:
    """Tokens of T5's tiny tokenizer, its 100 sentinels included."""
    return len(_pieces(sentencepiece_model(byte_fallback=False))) + 100


def multilingual_tokenizer() -> dict[str, bytes]:
    """The tokenizer files of google/mt5-small: a sentencepiece model (with byte pieces), and no tokenizer.json."""
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    config = {**special, "extra_ids": 0, "additional_special_tokens": None, "tokenizer_class": "T5Tokenizer"}
    return {
        "spiece.model": sentencepiece_model(byte_fallback=True),
        "special_tokens_map.json": to_json(special),
        "tokenizer_config.json": to_json(config),
    }


@cache
def english_tokenizer() -> dict[str, bytes]:
    """The tokenizer files of T5: a tokenizer.json that adds </s>, with 100 sentinels at the end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    sentinels = [f"<extra_id_{i}>" for i in reversed(range(100))]
    vocabulary = [*_pieces(sentencepiece_model(byte_fallback=False)), *((sentinel, 0.0) for sentinel in sentinels)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<pad>", "</s>", "<unk>", *sentinels)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    config = {**special, "extra_ids": 100, "model_max_length": 512, "tokenizer_class": "T5Tokenizer"}
    return {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": to_json(config)}


def to_json(value: Any) -> bytes:
    """The value as a small JSON file."""
    return json.dumps(value, indent=2).encode()
