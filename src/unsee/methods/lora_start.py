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
from collections.abc import Callable, Sequence
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

    Needs the inputs kept (`ROWS x in` numbers a layer, in the model's type), and less than two steps of training take.

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
    solvers: dict[int, Solver] = {}
    for name in filter(pulls.__contains__, layers):
        rows = inputs.get(name)
        a = layers[name].lora_A["default"].weight
        if rows is not None and id(rows) not in solvers:
            solvers = {id(rows): _solver(rows.to(a.device))}  # layers with the same inputs follow one another
        found = _directions(pulls[name].to(a.device), None if rows is None else solvers[id(rows)], len(a))
        a.data[: len(found)] = found


def _some(encoded: Encoded, role: Literal["forget", "retain"]) -> list[int]:
    """Samples that training will see, by picture or text, at even distances."""
    groups = [seen for group in encoded.by_input(role) if (seen := [i for i in group if i in encoded.seen])]
    return [i for group in groups[:: max(1, -(-len(groups) // GROUPS[role]))] for i in group]


def _pulls(
    method: Method[Any], encoded: Encoded, layers: dict[str, Any], chosen: Sequence[int]
) -> dict[str, torch.Tensor]:
    """The gradient of each layer's weight, `[out, in]`; of a large one some random mixtures of its rows, which hold
    most of it: the gradient itself is never made, and the weight takes none."""
    found: dict[str, torch.Tensor] = {}

    def watch(name: str, mixture: torch.Tensor | None) -> Any:
        def forwards(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            rows = args[0].detach().flatten(0, -2)

            def backwards(gradient: torch.Tensor) -> None:
                # float16 could not hold the products, for the loss is scaled there.
                pull = gradient.flatten(0, -2).to(torch.float32 if gradient.dtype is torch.float16 else gradient.dtype)
                pull = pull if mixture is None else pull @ mixture.T.to(pull.dtype)
                found[name] = found.get(name, 0) + (pull.T @ rows.to(pull.dtype)).float()

            if output.requires_grad:  # a method may also ask the model without gradients
                output.register_hook(backwards)

        return forwards

    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            out, mixed = len(layer.get_base_layer().weight), 4 * len(layer.lora_A["default"].weight)
            mixture = torch.randn(mixed, out).to(encoded.vlm.device) if out > mixed else None
            hooks.callback(layer.register_forward_hook(watch(name, mixture)).remove)
        gradients(method, encoded, chosen)
    encoded.vlm.model.zero_grad()
    return found


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


Solver = Callable[[torch.Tensor], torch.Tensor]
"""`[any, in]` to `[any, in]`, each row multiplied by `(C + lambda I)^-1`."""


def _solver(rows: torch.Tensor) -> Solver:
    """Of inputs `[rows, in]`; by Woodbury's identity where they are fewer than they are wide."""
    rows = rows.float()
    count, width = rows.shape
    ridge = max(RIDGE * float(rows.square().mean()), 1e-12)
    tall = count >= width
    moments = (rows.T @ rows if tall else rows @ rows.T) / count
    moments.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(moments)
    if tall:
        return lambda given: torch.cholesky_solve(given.T, factor).T
    return lambda given: (given - torch.cholesky_solve(rows @ given.T / count, factor).T @ rows) / ridge


def _directions(pull: torch.Tensor, solve: Solver | None, rank: int) -> torch.Tensor:
    """`[at most rank, in]`, rows of length 1, the strongest first."""
    spread = pull if solve is None else solve(pull)
    strengths, sides = torch.linalg.eigh(pull @ spread.T)
    strong = [i for i in range(len(pull) - 1, -1, -1) if strengths[i] > 1e-6 * strengths[-1]][:rank]
    return nn.functional.normalize(sides[:, strong].T @ spread, dim=1)
