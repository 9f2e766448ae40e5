"""Load a pair: two checkpoints that agree, or one and its own first layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from bild.config import GRAPH_TRITON
from bild.engines import DTYPES, CalmEngine, Engine, build_engine, build_exit_engines, calm_engine, check_exit, t5
from bild.engines.kernels import Kernels, followed, kernels_for, kinds_on, pin_precision, sizes_of
from bild.errors import BildError, refusing, shown
from bild.models.checkpoint import Model, first_layers, load_model
from bild.models.device import resolve_device
from bild.models.pair_spec import PairSpec, affixes_of, shared_ids, shared_tokenizer, shared_vocabulary
from bild.models.source import read_config
from bild.options import Option
from bild.progress import say


@dataclass(repr=False)
class Pair:
    """A large and a small model with one vocabulary, on one device, in one dtype."""

    name: str
    large: Model
    small: Model
    tokenizer: Any | None
    tokenizer_name: str | None
    vocabulary: int
    """Token ids that both know; padding rows beyond it are never chosen."""
    start: int
    eos: int
    dtype: str
    device: torch.device
    exit: int | None = None
    """The small model is the large one's first `exit` decoder layers; None where it is a checkpoint of its own."""
    triton: bool = False
    """See `PairSpec`."""
    _engines: dict[tuple[str, str], Engine] = field(default_factory=dict)
    _kernels: Kernels | None = None

    def __repr__(self) -> str:
        large, small = (f"{model.parameters / 1e6:.1f}M" for model in (self.large, self.small))
        sizes = f"{large} + {small}" if self.exit is None else f"{large}, its first {self.exit} layers"
        sizes += "" if self.small.reads is None else " behind its encoder"
        return f"Pair({self.name}: {sizes} parameters, {self.dtype}, {self.device})"

    def engine(self, role: str, name: str) -> Engine:
        """Return the engine of `role` ("large" or "small"), built at its first use."""
        key = (role, name)
        options: dict[str, Any] = {"dtype": self.dtype, "eos": self.eos, "vocabulary": self.vocabulary}
        self.triton |= name == GRAPH_TRITON
        options["kernels"] = None if name == "hf" else self.kernels
        if key not in self._engines and self.exit is not None:
            model = self.large.module if name == "hf" else self.large
            both = build_exit_engines(name, model, self.exit, **options)
            self._engines[("large", name)], self._engines[("small", name)] = both
        if key not in self._engines:
            model, other = self.model(role), "large" if role == "small" else "small"
            options |= {"small": role == "small", "beside": self._engines.get((other, name))}
            self._engines[key] = build_engine(name, model.module if name == "hf" else model, **options)
            if model.reads is not None:
                self._engines[key].read_states_of(self.engine("large", name))
        return self._engines[key]

    def model(self, role: str) -> Model:
        """Return the model of `role`, "large" or "small"."""
        return self.large if role == "large" else self.small

    def release_library(self) -> None:
        """Free the library's module of the large model, when `generate()` has had its share of the examples."""
        if ("large", "hf") not in self._engines:
            self.large.release()

    @property
    def kernels(self) -> Kernels:
        """The kernels that its engines multiply with: those given before, or the fastest, measured once a process."""
        if self._kernels is None:
            self._kernels = kernels_for(self.device, DTYPES[self.dtype], self._sizes, self.triton)
        return self._kernels

    def kernels_kept(self, kept: Mapping[str, Any] | None) -> Kernels:
        """Return the choice that a tree or a point keeps, without measuring; its own where this cannot be followed."""
        kinds = kinds_on(self.device.type, DTYPES[self.dtype], torch.get_num_threads())
        return followed(kept, kinds, self._sizes) or self.kernels

    @property
    def _sizes(self) -> list[tuple[int, int]]:
        """Sizes of the matrices of both models."""
        return [size for model in (self.large, self.small) for size in sizes_of(model.config, self.vocabulary)]

    def use(self, kernels: Kernels) -> None:
        """Multiply with these kernels from now on; engines for others are forgotten."""
        if self._kernels is not None and kernels.kinds != self._kernels.kinds:
            self._engines.clear()
            self.large.forget_layouts()
            self.small.forget_layouts()
        self._kernels = kernels

    def weights(self, role: str, kernels: Kernels | None = None) -> t5.Weights:
        """Return the weights of `role` as an engine with these kernels has them; whoever has them shares them."""
        return self.model(role).weights(DTYPES[self.dtype], self.vocabulary, kernels or self.kernels)

    def calm_engine(self, name: str) -> CalmEngine:
        """Return the large model as `method=calm` runs it, over its engine's weights and buffers; built once."""
        key = ("calm", name)
        if key not in self._engines:
            self._engines[key] = calm_engine(self.engine("large", name))
        engine = self._engines[key]
        assert isinstance(engine, CalmEngine)
        return engine

    def encode(self, text: str, limit: int | None = None) -> tuple[list[int], bool]:
        """Return the token ids of a source, as its tokenizer frames it, at most `limit`; and whether it was cut."""
        if self.tokenizer is None:
            raise BildError(f"The pair {self.name} has no tokenizer: give token ids, or a folder with tokenizer.json.")
        right = limit is None or (isinstance(limit, int) and limit > 0)
        if not isinstance(text, str) or not right:
            given = shown(limit if isinstance(text, str) else text)
            raise BildError(f"The pair {self.name} encodes texts, to one token at least: {given} was given.")
        before, behind = self._affixes
        ids = [*before, *self.tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]]
        room = len(ids) if limit is None else max(limit - len(behind), 0)
        return [*ids[:room], *behind], len(ids) > room

    @cached_property
    def _affixes(self) -> tuple[list[int], list[int]]:
        return affixes_of(self.tokenizer, self.eos)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of token ids, special tokens left out."""
        if self.tokenizer is None:
            raise BildError(f"The pair {self.name} has no tokenizer: its output is token ids only.")
        sentence = f"{shown(tokens)} is no list of token ids: give whole numbers, 0 or more."
        with refusing(lambda _: sentence, TypeError, OverflowError, AttributeError):
            return str(self.tokenizer.decode(tokens, skip_special_tokens=True).strip())  # of several, it is a list


def load_pair(large: str = "embedded", small: str | None = None, **options: Any) -> Pair:
    """Load two checkpoints (folders or hub ids), or the embedded pair by its name alone.

    `options` are those of `PairSpec`: tokenizer, name, dtype, device, revision_large, revision_small, exit. `exit=n`
    makes the first n decoder layers of the large checkpoint the small model; `small` is then not loaded.

    Raises BildError where one is missing or unsafe, where they are no T5 or mT5, or where their vocabularies, end or
    start tokens differ.
    """
    for name in options:
        Option(PairSpec, {}).part("", name, name)
    return load(PairSpec(large, small, **options))


def load(spec: PairSpec) -> Pair:
    """Load the pair of a spec. For the errors see `load_pair`."""
    place, dtype = resolve_device(spec.device), DTYPES[spec.dtype]
    if place.type == "cuda":
        pin_precision()
    sources = spec.sources()
    configs = [read_config(source) for source in sources]  # first, because the tokenizer's loader reads them too
    if spec.exit is not None:
        check_exit(spec.exit, configs[0].num_decoder_layers)
    owners = spec.tokenizers(sources)
    tokenizer = shared_tokenizer(owners)
    whole = load_model(sources[0], configs[0], dtype, place)
    if spec.exit is None:
        part = load_model(sources[1], configs[1], dtype, place, whole)
    else:
        part = first_layers(whole, spec.exit)
    vocabulary = shared_vocabulary(sources, configs, tokenizer)
    start, eos = shared_ids(sources, configs)
    hub_name, folder_name = spec.large.rpartition("/")[2], sources[0].folder.name
    name = spec.name or ("embedded" if spec.large == "embedded" else hub_name if sources[0].revision else folder_name)
    owner = owners[0].name if owners else None
    if spec.exit is None:
        _warn(whole, part)
    return Pair(name, whole, part, tokenizer, owner, vocabulary, start, eos, spec.dtype, place, spec.exit, spec.triton)


def _warn(large: Model, small: Model) -> None:
    """Warn of what is no error and hardly meant: a pair that is swapped, or one model twice."""
    if large.fingerprint == small.fingerprint:
        say(f"warning: the large and the small model are the same, {large.source.name}")
    elif large.parameters < small.parameters:
        say(
            f"warning: the large model {large.source.name} has {large.parameters:,} parameters and the small one "
            f"{small.source.name} {small.parameters:,}: are they swapped?"
        )


def text_decoder(spec: PairSpec) -> Callable[[Sequence[int]], str]:
    """Return a function from token ids to text, special tokens left out, without loading a model.

    Raises BildError where a checkpoint is not found or the pair has no tokenizer.
    """
    tokenizer = shared_tokenizer(spec.tokenizers(spec.sources()))
    if tokenizer is None:
        raise BildError(f"The pair {spec.name} has no tokenizer: give model.tokenizer=..., a folder or a hub id.")
    return lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=True))
