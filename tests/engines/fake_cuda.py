"""Tensors that only have a shape, a dtype and a CUDA device, and the operations that a program launches on them.

A build of torch for CPUs refuses the device for want of a guard that switches between devices; the one of the device
"meta" does nothing, and serves.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import MT5Config, MT5ForConditionalGeneration, T5ForConditionalGeneration

_GUARDS, _CUDA, _META = "_ZN3c104impl26device_guard_impl_registryE", 1, 14
_VIEWS = ("view", "_unsafe_view", "permute", "transpose", "t.", "select.", "slice.", "unsqueeze", "expand", "unbind")
_VIEWS += ("split", "alias", "detach", "narrow", "as_strided", "squeeze", "chunk", "lift_fresh", "prim.")
_WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal", "item")
_PRODUCTS = ("mm.", "matmul.", "bmm.", "addmm.", "baddbmm.", "bild.attend.")


class Launch(NamedTuple):
    """One operation of the device: its name, and the tensors that it is given and makes."""

    name: str
    given: list[Tensor]
    made: list[Tensor]

    @property
    def kernels(self) -> int:
        """A product with a bias copies the bias first; a fused choice is made of splits."""
        return 2 if self.name.startswith(("baddbmm.", "bild.choose.")) else 1

    @property
    def product(self) -> bool:
        return self.name.startswith(_PRODUCTS)


class Log(TorchDispatchMode):
    """Notes what is launched, and what a CUDA graph cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []
        self.forbidden: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.")
        given, made = _tensors((args, kwargs or {})), _tensors(out)
        devices = {t.device for t in given + made if t.device.type == "cuda" or t.ndim}
        if len(devices) > 1:
            self.forbidden.append(f"{name} between {sorted(map(str, devices))}")
        if any(wait in name for wait in _WAITS):
            self.forbidden.append(f"{name} waits, or makes a shape of its data")
        if name.startswith("index.") and any(t.dtype == torch.bool for t in given[1:]):
            self.forbidden.append(f"{name} by a mask")
        same = name.startswith(("to.", "_to_copy", "contiguous")) and any(m is g for m in made for g in given)
        same = same or (name.startswith("reshape") and given[0].is_contiguous())
        if not same and not name.startswith(_VIEWS):
            self.launches.append(Launch(name, given, made))
        return out

    @property
    def kernels(self) -> int:
        return sum(launch.kernels for launch in self.launches)

    def names(self) -> Counter[str]:
        return Counter(launch.name for launch in self.launches)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Give a mode in which CUDA tensors are made that have no data; a read of one ends in an error."""
    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    guards = (ctypes.c_void_p * 32).in_dll(ctypes.CDLL(str(library)), _GUARDS)
    before = guards[_CUDA]
    guards[_CUDA] = guards[_META]
    try:
        yield FakeTensorMode(allow_non_fake_inputs=True)
    finally:
        guards[_CUDA] = before


def fake_module(mode: FakeTensorMode, config: Any, dtype: torch.dtype, device: str) -> Any:
    """Make a T5 or mT5 of fake tensors; `wo` is in fp32 where the library has it so."""
    multilingual = isinstance(config, MT5Config)
    with torch.device("meta"):
        module = (MT5ForConditionalGeneration if multilingual else T5ForConditionalGeneration)(config)
    for name, weight in list(module.named_parameters()):
        owner, _, own = name.rpartition(".")
        kept = torch.float32 if dtype == torch.float16 and name.endswith("wo.weight") else dtype
        with mode:
            made = torch.nn.Parameter(torch.empty(weight.shape, dtype=kept, device=device), requires_grad=False)
        setattr(module.get_submodule(owner), own, made)
    head = module.shared.weight
    if multilingual:
        with mode:
            head = torch.nn.Parameter(torch.empty_like(head), requires_grad=False)
    module.lm_head.weight = head
    module.encoder.embed_tokens.weight = module.decoder.embed_tokens.weight = module.shared.weight
    assert isinstance(module.shared.weight, FakeTensor)
    return module.eval()
