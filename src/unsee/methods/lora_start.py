"""Where a LoRA starts: in the directions that forgetting pulls at, and that what is retained does not use.

PEFT draws A at random, so the first steps move the layer along 32 random directions of hundreds. Here A's rows `a` are
those along which the first gradient is largest, measured by what retained samples send through the layer:
`|G a|^2 / (a^T (C + lambda I) a)`, G being the gradient of the weight on what is to be forgotten and C the second
moments of its inputs on what is to be retained. They are generalised eigenvectors, each scaled to length 1. B starts at
0 as always, so the model is the original until the first step, and the adapter is an ordinary one.

Our own; G alone is the idea of LoRA-GA (arXiv 2407.05000), C alone that of CorDA (arXiv 2406.05223).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn

from unsee.methods.base import Method
from unsee.methods.encoded import Encoded
from unsee.methods.gradients import gradients

GROUPS = {"forget": 8, "retain": 16}
"""Pictures (with their questions) and texts looked at."""
ROWS = 1024
"""Inputs of a layer kept to estimate C from."""
RIDGE = 0.01
"""Lambda, in means of C's diagonal. Ten times less makes no difference."""


def aim(method: Method[Any], encoded: Encoded) -> None:
    """Set A of every LoRA layer. Rows for which the gradient has no direction left stay as they were drawn.

    Needs the inputs kept (`ROWS x in` numbers a layer, in the model's type), one layer's gradient at a time, and about
    as long as two steps of training.

    Args:
        method: attached and prepared, and not trained yet: every B is 0.
        encoded: its samples.
    """
    layers = {
        name: module
        for name, module in encoded.vlm.model.named_modules()
        if hasattr(module, "lora_A") and isinstance(module.get_base_layer(), nn.Linear)
    }
    forget, retain = (_some(encoded, role) for role in ("forget", "retain"))
    if not forget or not layers:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the sketch: nothing that a user would call random
        pulls = _pulls(method, encoded, layers, forget)
    inputs = _inputs(encoded, layers, retain)
    roots: dict[int, torch.Tensor] = {}
    for name in filter(pulls.__contains__, layers):
        rows = inputs.get(name)
        a = layers[name].lora_A["default"].weight
        if rows is not None and id(rows) not in roots:
            roots = {id(rows): _root(rows.to(a.device))}  # layers with the same inputs follow one another
        found = _directions(pulls[name].to(a.device), None if rows is None else roots[id(rows)], len(a))
        a.data[: len(found)] = found


def _some(encoded: Encoded, role: Literal["forget", "retain"]) -> list[int]:
    """Samples that training will see, by picture or text, at even distances."""
    groups = [seen for group in encoded.by_input(role) if (seen := [i for i in group if i in encoded.seen])]
    return [i for group in groups[:: max(1, -(-len(groups) // GROUPS[role]))] for i in group]


def _pulls(
    method: Method[Any], encoded: Encoded, layers: dict[str, Any], chosen: Sequence[int]
) -> dict[str, torch.Tensor]:
    """The gradient of each layer's weight, `[out, in]`; of a large one some random mixtures of its rows, which hold
    most of it. Each is mixed as it comes, so no two layers' gradients are held at once."""
    found: dict[str, torch.Tensor] = {}

    def catch(name: str, mixture: torch.Tensor | None) -> Any:
        def caught(weight: torch.Tensor) -> None:
            assert weight.grad is not None
            gradient = weight.grad.float()
            found[name] = found.get(name, 0) + (gradient if mixture is None else mixture @ gradient)
            weight.grad = None

        return caught

    with _only(encoded, [layer.get_base_layer().weight for layer in layers.values()]), contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            weight, rank = layer.get_base_layer().weight, len(layer.lora_A["default"].weight)
            mixture = torch.randn(4 * rank, len(weight)).to(weight.device) if len(weight) > 4 * rank else None
            hooks.callback(weight.register_post_accumulate_grad_hook(catch(name, mixture)).remove)
        gradients(method, encoded, chosen)
    return found


@contextlib.contextmanager
def _only(encoded: Encoded, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """These weights take gradients, and what trains does not, for as long as this lasts."""
    trained = [p for p in encoded.vlm.model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad = False
    for w in weights:
        w.requires_grad = True
    try:
        yield
    finally:
        for w in weights:
            w.requires_grad = False
        for p in trained:
            p.requires_grad = True


@torch.no_grad()
def _inputs(encoded: Encoded, layers: dict[str, Any], chosen: Sequence[int]) -> dict[str, torch.Tensor]:
    """What retained samples send into each layer, `[rows, in]`, some rows of each; layers fed alike share them."""
    batches = [batch for batch, _ in encoded.micro_batches(chosen)]
    places = [(batch.tensors.segment.flatten() >= 0).nonzero()[:, 0] for batch in batches]  # no padding
    stride = max(1, sum(map(len, places)) // ROWS)
    kept: dict[str, list[torch.Tensor]] = {}
    fed_like: dict[str, str] = {}
    latest: tuple[torch.Tensor, str] | None = None
    rows = torch.zeros(0, dtype=torch.long)  # of the batch that is running

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            nonlocal latest
            if latest is None or args[0] is not latest[0]:
                latest = args[0], name
                kept.setdefault(name, []).append(args[0].flatten(0, -2)[rows].to(encoded.vlm.base.dtype))
            fed_like[name] = latest[1]

        return hook

    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(keep(name)).remove)
        for batch, some in zip(batches, places, strict=True):
            rows = some[::stride].to(encoded.vlm.device)
            encoded.vlm.hidden(batch.tensors, batch.entering, encoded.layer)
    together = {name: torch.cat(found) for name, found in kept.items()}
    return {name: together[like] for name, like in fed_like.items()}


def _root(rows: torch.Tensor) -> torch.Tensor:
    """The lower triangular L with `L L^T = C + lambda I`."""
    rows = rows.float()
    moments = rows.T @ rows / len(rows)
    moments.diagonal().add_(max(RIDGE * float(moments.diagonal().mean()), 1e-12))
    return torch.linalg.cholesky(moments)


def _directions(pull: torch.Tensor, root: torch.Tensor | None, rank: int) -> torch.Tensor:
    """`[at most rank, in]`, rows of length 1, the strongest first."""
    if root is not None:
        pull = torch.linalg.solve_triangular(root, pull.T, upper=False).T
    strengths, sides = torch.linalg.eigh(pull @ pull.T)
    strong = [i for i in range(len(pull) - 1, -1, -1) if strengths[i] > 1e-6 * strengths[-1]][:rank]
    found = pull.T @ sides[:, strong]
    if root is not None:
        found = torch.linalg.solve_triangular(root.T, found, upper=True)
    return nn.functional.normalize(found.T, dim=1)
