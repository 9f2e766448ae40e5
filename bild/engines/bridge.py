"""A small model without an encoder: its decoder reads the large model's encoder states through one linear map.

The map (the bridge, [d_small, d_large], no bias) stands in the place of the encoder, so the library's modules, their
`generate()` and a training take such a model like any T5. A checkpoint says so by `bild_bridge: {"width": d_large}` and
`num_layers: 0` in its config.json, and has the tensor `encoder.bridge.weight` in the place of an encoder's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from bild.errors import BildError

BRIDGE = "encoder.bridge.weight"


def bridge_width(config: Any) -> int | None:
    """Return the width of the states that a small model reads; None for a model with an encoder of its own.

    BildError where the configuration does not say it as it should.
    """
    found = getattr(config, "bild_bridge", None)
    if found is None:
        return None
    width = found.get("width") if isinstance(found, dict) else None
    if type(width) is not int or width < 1 or config.num_layers != 0:
        raise BildError(
            f'bild_bridge={found} in a config.json is not understood: give {{"width": n}}, the width of the encoder '
            "that is read, and num_layers: 0."
        )
    return width


def source_width(config: Any) -> int:
    """Return the width of the states that a decoder reads."""
    return bridge_width(config) or int(config.d_model)


class BridgedEncoder(nn.Module):
    """Another model's encoder and the bridge behind it, in the place of an encoder of one's own."""

    main_input_name = "input_ids"

    def __init__(self, shared: Any, width: int, own: int) -> None:
        super().__init__()
        self.bridge = nn.Linear(width, own, bias=False)
        self._shared = (shared,)  # out of this module's sight: not its weights, not its mode

    @property
    def shared(self) -> Any:
        """The library's encoder that is read; None where only names and sizes are asked for."""
        return self._shared[0]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        """Encode ids [b, S] as the library's encoder does: states [b, S, d_small]."""
        states = self.shared(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return BaseModelOutput(last_hidden_state=self.bridge(states.to(self.bridge.weight.dtype)))


def cut_encoder(module: Any, shared: Any) -> Any:
    """Give up a library module's own encoder for a bridge from `shared`, another model's encoder."""
    module.config.num_layers = 0
    module.config.bild_bridge = {"width": int(shared.config.d_model)}
    return build_bridge(module, shared)


def build_bridge(module: Any, shared: Any) -> Any:
    """Put the bridge from `shared`, another model's encoder, in the place of a library module's own encoder.

    The module's configuration says the width. The bridge's weights are new: a fresh one keeps the states' size.
    """
    width = bridge_width(module.config)
    assert width is not None
    made = BridgedEncoder(shared, width, module.config.d_model)
    nn.init.normal_(made.bridge.weight, std=width**-0.5)
    module.encoder = made.to(module.device, module.dtype)
    return module
