"""Where a family of models keeps its parts. Data, not code: a family is one entry of `FAMILIES`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from unsee.errors import UnseeError


@dataclass(frozen=True)
class Anatomy:
    """Module paths of a multimodal LLM, as `get_submodule` takes them.

    Questions are packed behind one picture: a family fits where image tokens attend causally and are of a fixed number,
    and positions are plain, so that packed and separate forwards agree.

    Args:
        vision: the vision tower, V.
        projector: from V's features to W's embeddings, P.
        language: the decoder without its head, W.
        head: hidden states to vocabulary.
        layers: W's list of layers, seen from W; each takes what the one before it gives.
        norm: what follows the last of them, seen from W.
    """

    vision: str
    projector: str
    language: str
    head: str
    layers: str = "layers"
    norm: str = "norm"

    def layer_of(self, name: str) -> int | None:
        """Which of W's layers a parameter or module path lies in; None: in none of them."""
        start = f"{self.language}.{self.layers}."
        return int(name.removeprefix(start).partition(".")[0]) if name.startswith(start) else None

    def linear_targets(self, model: nn.Module, first_layer: int = 0, end_layer: int | None = None) -> list[str]:
        """Exact paths of every linear layer inside W's layers from `first_layer` on, up to `end_layer` without it.

        Exact, because a suffix such as `q_proj` also matches the vision tower's layers.
        """
        inside = model.get_submodule(self.language).named_modules(prefix=self.language)
        linear = [name for name, module in inside if isinstance(module, nn.Linear)]
        inside_layers = ((name, self.layer_of(name)) for name in linear)
        end = float("inf") if end_layer is None else end_layer
        return [name for name, at in inside_layers if at is not None and first_layer <= at < end]


FAMILIES: dict[str, Anatomy] = {
    "llava": Anatomy(
        vision="model.vision_tower",
        projector="model.multi_modal_projector",
        language="model.language_model",
        head="lm_head",
    ),
}
"""By `config.model_type`. LLaVA covers LLaVA-1.5 and every model saved in its shape, unsee-mini among them."""


def anatomy_of(model_type: str) -> Anatomy:
    """The anatomy of a family, or an error that lists the families known."""
    if model_type not in FAMILIES:
        raise UnseeError(f"models of type {model_type!r} are not supported yet; supported: {', '.join(FAMILIES)}")
    return FAMILIES[model_type]
