"""One checkpoint's weights, which must be those of its configuration; pickles are read without running their code."""

from __future__ import annotations

import copy
import gc
import hashlib
import math
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from torch import Tensor

from bild.engines import t5
from bild.engines.bridge import BRIDGE, bridge_width, build_bridge
from bild.engines.kernels import Kernels
from bild.errors import BildError, refusing
from bild.models.source import Source, fingerprint, plain_config, weight_files
from bild.progress import say
from bild.results.locking import let_go, take

_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_HEAD = "lm_head.weight"
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""T5 v1.0 was published with it; no position bias has ever been added in its cross-attention."""
_SAFE_SINCE = (2, 6)
"""Before this version of torch, a pickle could run code although `weights_only=True` was asked for."""
_MARGIN = 64 << 20
_MAY_BE_TIED = re.compile(r"(encoder\.embed_tokens|decoder\.embed_tokens|lm_head)\.weight")


@dataclass(eq=False, repr=False)
class Model:
    """One checkpoint: its tensors, which engines lay out for themselves, and the library's module if it is asked for.

    The tensors stay where they were read (a mapped file, which the system lets go of), so the device holds the layouts
    of the engines and nothing twice. `state_dict`, `config` and `device` are what an engine takes from it.
    """

    source: Source
    fingerprint: str
    config: Any
    state: Mapping[str, Tensor]
    dtype: torch.dtype
    device: torch.device
    whole: Model | None = None
    """The model whose first layers this is, of an early-exit pair."""
    reads: Model | None = None
    """The large model, where this one has a bridge to its encoder and none of its own."""
    _module: Any = field(default=None, init=False)
    _weights: dict[Any, t5.Weights] = field(default_factory=dict, init=False)

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return sum(weight.numel() for weight in self.state.values())

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the weights by the library's names; each is rounded and brought to the device when it is asked for."""
        return PlacedTensors(self.state, self.dtype, self.device)

    def weights(self, dtype: torch.dtype, vocabulary: int, kernels: Kernels) -> t5.Weights:
        """Return the weights as engines and trees lay them out: once, whoever asks first (see `t5.prepare`)."""
        key = (dtype, vocabulary, str(kernels.kinds))
        if key not in self._weights:
            if self.whole is not None:
                whole, state = self.whole.weights(dtype, vocabulary, kernels), self.state_dict()
                self._weights[key] = t5.first_layers(whole, state, self.config.num_decoder_layers)
            else:
                encoder = None if self.reads is None else self.reads.weights(dtype, vocabulary, kernels).encoder
                self._weights[key] = t5.prepare(self.state_dict(), self.config, dtype, vocabulary, kernels, encoder)
        return self._weights[key]

    def forget_layouts(self) -> None:
        """Free the weights that were laid out, once no engine has them any more."""
        self._weights.clear()

    @property
    def module(self) -> Any:
        """The library's module on the device, made at first use: for `engine=hf`, `generate()` and training."""
        if self.whole is not None:
            return self.whole.module
        if self._module is None:
            made = _built(self.source, self.config, self.state, self.dtype).to(self.device).eval()
            self._module = made if self.reads is None else self._bridged(made)
        return self._module

    def _bridged(self, module: Any) -> Any:
        assert self.reads is not None
        build_bridge(module, self.reads.module.encoder)
        module.encoder.bridge.weight = torch.nn.Parameter(self.state_dict()[BRIDGE])
        return module

    def release(self) -> None:
        """Free the library's module; the next use makes it again."""
        if self._module is not None:
            self._module = None
            free_memory()

    def describe(self) -> dict[str, Any]:
        """Describe the checkpoint for the record."""
        return {
            "source": self.source.name,
            "revision": self.source.revision,
            "fingerprint": self.fingerprint,
            "parameters": self.parameters,
        }


class PlacedTensors(Mapping[str, Tensor]):
    """A checkpoint's tensors in the dtype and on the device that they are used in, made one by one.

    In fp16 the second feed-forward matrix stays in fp32, as the library leaves it: its products overflow.
    """

    def __init__(self, state: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> None:
        self.state, self.dtype, self.device = state, dtype, device

    def __getitem__(self, name: str) -> Tensor:
        tied = name if name in self.state else _EMBEDDINGS[0] if name in (*_EMBEDDINGS, _HEAD) else name
        return self.state[tied].to(kept_dtype(name, self.dtype)).to(self.device)

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


def kept_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that the library keeps a weight in, when the model is loaded in `dtype`."""
    return torch.float32 if dtype == torch.float16 and name.endswith(".wo.weight") else dtype


def free_memory() -> None:
    """Give memory back now: the library's modules lie in cycles, which only a collection frees."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_model(
    source: Source, config: Any, dtype: torch.dtype, device: torch.device, large: Model | None = None
) -> Model:
    """Read the weights of a checkpoint, which must be those of its configuration, no more and no fewer.

    `large` is the model whose encoder it may read. Raises BildError where the weights are not those, or where it has
    no encoder and none to read; a head that is missing is the input embedding, and that is said.
    """
    width = bridge_width(config)
    if width is not None and (large is None or large.reads is not None):
        raise BildError(
            f"{source.name} has no encoder of its own: it reads the states of the large model that it was trained "
            "behind, so it can only be that one's model.small, and bild align trains it."
        )
    if width is not None and large is not None and large.config.d_model != width:
        raise BildError(
            f"{source.name} reads encoder states of width {width}, and {large.source.name} has {large.config.d_model}: "
            "take the large model that it was trained behind."
        )
    with refusing(lambda why: f"{source.name} has a config.json that makes no model ({why})."):  # no such sizes
        wanted = {name: weight.shape for name, weight in meta_module(config).state_dict().items()}
    state = _fitting(_read_weights(source), wanted, source)
    return Model(
        source, fingerprint(source.folder), config, state, dtype, device, reads=None if width is None else large
    )


def _kind(config: Any) -> Any:
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()  # its warnings on ties and its bars would drown ours
    logging.disable_progress_bar()
    return {"t5": T5ForConditionalGeneration, "mt5": MT5ForConditionalGeneration}[config.model_type]


def meta_module(config: Any) -> Any:
    """Make the library's module of a configuration without memory for its weights."""
    with torch.device("meta"):
        made = _kind(config)(config)
        return made if bridge_width(config) is None else build_bridge(made, None)


def _built(source: Source, config: Any, state: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    with refusing(lambda why: f"The weights of {source.name} cannot be loaded: {why}."):
        # Without a name the library reads no file of its own accord: no adapter, no generation settings.
        return _kind(config).from_pretrained(None, config=config, state_dict=dict(state), dtype=dtype)


def _read_weights(source: Source) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for file in weight_files(source.folder):
        safe = file if file.suffix == ".safetensors" else converted(file, source.name)
        with refusing(lambda why: f"The weights of {source.name} cannot be loaded: {why}."):
            loaded = load_file(safe)
        if (name := next((name for name, weight in loaded.items() if not _is_finite(weight)), None)) is not None:
            raise BildError(
                f"The weights of {source.name} are damaged: {name} in {file} holds NaN or infinity; fetch the file "
                "again, or train it again with a lower rate."
            )
        if (name := next((name for name, weight in loaded.items() if not _is_plain(weight)), None)) is not None:
            raise BildError(
                f"The weights of {source.name} are quantised: {name} in {file} is {str(loaded[name].dtype)[6:]}; save "
                "them in fp32, fp16 or bf16."
            )
        twice = (name for name in loaded.keys() & state.keys() if not torch.equal(loaded[name], state[name]))
        if (name := min(twice, default=None)) is not None:
            raise BildError(
                f"The weights of {source.name} are of two checkpoints: {name} in {file} is another than in a shard "
                "before it; fetch all shards again."
            )
        state |= loaded
    return state


def _is_finite(weight: Tensor) -> bool:
    """Tell whether all of a weight is finite, in one pass and without another tensor of its size."""
    return not _is_plain(weight) or not weight.numel() or all(map(math.isfinite, torch.aminmax(weight)))


def _is_plain(weight: Tensor) -> bool:
    """Tell whether a weight is a number by itself, without the scale that one of a byte or less stands for."""
    return weight.is_floating_point() and weight.element_size() > 1


def _fitting(state: dict[str, Tensor], wanted: dict[str, torch.Size], source: Source) -> dict[str, Tensor]:
    """Check the weights of a file against those that the model has, and give the embedding its one name."""
    state = {name: weight for name, weight in state.items() if not _is_harmless(name, weight)}
    found = [name for name in _EMBEDDINGS if name in state]
    if found:
        embedding = state[found[0]]
        for name in found[1:]:
            if not torch.equal(embedding, state[name]):
                raise BildError(
                    f"{source.name} has input embeddings of their own for its encoder and decoder ({name} is not "
                    f"{found[0]}): only checkpoints that share one are supported."
                )
        state = {name: weight for name, weight in state.items() if name not in found} | {_EMBEDDINGS[0]: embedding}
    plain = plain_config(source)
    tied = plain.get("tie_word_embeddings", plain.get("model_type") == "t5")  # the library's object says true of any
    if _HEAD not in state and _EMBEDDINGS[0] in state and not tied:
        say(f"warning: {source.name} has no {_HEAD}: its input embedding is the head, too")
    if _HEAD in state and _EMBEDDINGS[0] in state and torch.equal(state[_HEAD], state[_EMBEDDINGS[0]]):
        del state[_HEAD]  # one weight under two names, as the library takes it
    if beyond := sorted(set(state) - set(wanted)):
        raise BildError(
            f"The weights of {source.name} do not fit its config.json: {len(beyond)} have no place in the model, "
            f"{beyond[0]} first."
        )
    if missing := sorted(set(wanted) - set(state) - {*_EMBEDDINGS[1:], _HEAD}):
        raise BildError(f"The weights of {source.name} are incomplete: {len(missing)} are missing, {missing[0]} first.")
    for name in sorted(state):
        if state[name].shape != wanted[name]:
            raise BildError(
                f"The weights of {source.name} do not fit its config.json: {name} is {list(state[name].shape)}, not "
                f"{list(wanted[name])}."
            )
    return state


def _is_harmless(name: str, weight: Tensor) -> bool:
    """Tell whether a weight is one that old conversions left behind and no T5 has: a norm's bias of zeros, a table."""
    return name == _UNUSED or (name.endswith("layer_norm.bias") and not bool(weight.any()))


def first_layers(whole: Model, exit_layer: int) -> Model:
    """Return the small model of an early-exit pair: the same tensors, without those of the layers beyond."""
    beyond = tuple(f"decoder.block.{i}." for i in range(exit_layer, whole.config.num_decoder_layers))
    config = copy.deepcopy(whole.config)
    config.num_decoder_layers = exit_layer
    state = {name: weight for name, weight in whole.state.items() if not name.startswith(beyond)}
    named = f"{whole.fingerprint}-exit{exit_layer}"
    return Model(whole.source, named, config, state, whole.dtype, whole.device, whole)


def converted(file: Path, name: str) -> Path:
    """Return the safetensors file with the weights of `file`, a pickle of the checkpoint `name`; made at first use.

    It lies in `bild-converted` beside the hub's cache (in the user's own where that is shared and read-only), under the
    hash of the pickle's bytes: a changed pickle is another file, and a conversion that was killed leaves nothing that
    would be taken for one. Raises BildError for a pickle that holds more than tensors, that is damaged, or for which
    there is no room.
    """
    target = Path(constants.HF_HUB_CACHE).with_name("bild-converted") / f"{_digest(file)}.safetensors"
    if not target.is_file() and not os.access(next(each for each in target.parents if each.exists()), os.W_OK):
        own = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        target = own / "bild-converted" / target.name
    folder = target.parent
    if target.is_file():
        return target
    what, mend = f"{file.name} of {name} cannot be converted in {folder}", "set HF_HOME to a folder with room"
    with refusing(lambda why: f"{what} ({why}): {mend}.", OSError), ExitStack() as stack:
        stack.callback(let_go, take(target.with_suffix(".lock"), f"converts {file.name} of {name}"))
        if not target.is_file():
            _convert(file, name, target)
    return target


def _convert(file: Path, name: str, target: Path) -> None:
    from safetensors.torch import save_file

    needed, free = file.stat().st_size + _MARGIN, shutil.disk_usage(target.parent).free
    if free < needed:
        raise BildError(
            f"{file.name} of {name} must be converted to safetensors, for which {target.parent} needs "
            f"{needed / 1e9:.1f} GB and has {free / 1e9:.1f} GB: make room, or set HF_HOME to a larger disk."
        )
    state = _apart(_read(file, name))
    say(f"{name}: converting {file.name} to safetensors, once ({target})")  # not before it was read
    unfinished = target.with_suffix(".unfinished")
    try:
        save_file(state, unfinished, metadata={"format": "pt"})
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _read(file: Path, name: str) -> dict[str, Tensor]:
    """Read a pickle by torch's restricted reader, which knows tensors and nothing else."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_SINCE:
        raise BildError(
            f"{file.name} of {name} is a pickle, which torch {torch.__version__} cannot read safely: install 2.6."
        )
    with refusing(lambda why: f"The weights of {name} cannot be loaded: {why}."):  # torch raises all kinds
        try:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        except pickle.UnpicklingError as error:
            found = re.search(r"(?:GLOBAL|Unsupported (?:class|operand))\W+([A-Za-z_][\w.]*)", str(error))
            what = f"holds more than tensors ({found[1]})" if found else "is damaged, or holds more than tensors"
            raise BildError(
                f"{file.name} of {name} is not read: it {what} and may run code; ask for model.safetensors in its "
                "place."
            ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BildError(f"The weights of {name} cannot be loaded: {file.name} is no mapping of names to tensors.")
    odd = [key for key, value in state.items() if not isinstance(key, str) or not _has_bytes(value)]
    if odd:
        raise BildError(
            f"The weights of {name} cannot be loaded: {odd[0]!r} in {file.name} has no name, or is sparse, quantised "
            "or without values; save plain tensors in fp32, fp16 or bf16."
        )
    return dict(state)


def _has_bytes(tensor: Tensor) -> bool:
    """Tell whether a tensor is there as plain numbers, each with bytes of its own, as safetensors wants them."""
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give every weight memory of its own, which safetensors asks for; a second name of the embedding is left out."""
    found: dict[str, Tensor] = {}
    owners: set[int] = set()
    for name, tensor in sorted(state.items(), key=lambda item: _MAY_BE_TIED.fullmatch(item[0]) is not None):
        storage = tensor.untyped_storage().data_ptr()
        if storage in owners and _MAY_BE_TIED.fullmatch(name) and _is_whole(tensor, found.get("shared.weight")):
            continue
        found[name] = tensor.clone().contiguous() if storage in owners else tensor.contiguous()
        owners.add(storage)
    return found


def _is_whole(tensor: Tensor, shared: Tensor | None) -> bool:
    return shared is not None and tensor.data_ptr() == shared.data_ptr() and tensor.shape == shared.shape


def _digest(file: Path) -> str:
    """Return the sha256 of a file; the hub's cache names large files by it."""
    blob = file.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
