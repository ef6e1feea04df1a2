"""Neurons of the MLPs of V and W: how much they fire on given inputs, and the model without some of them.

A neuron is an input of the linear layer that ends an MLP (`down_proj`, `fc2`): what the activation function gives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import nn

from unsee.models.vlm import VisionLanguageModel

Neurons = dict[str, torch.Tensor]
"""By path of the layer that ends the MLP: `[neurons]`."""

Statistic = Literal["absolute", "frequency", "variance", "rms"]
"""How much a neuron fires, over positions: the mean of |z|, the share of positions where |z| is above `FIRES`, the
standard deviation of z, the root of the mean of z squared."""

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
FIRES = 0.1


def mlp_ends(vlm: VisionLanguageModel, part: str) -> dict[str, nn.Linear]:
    """The linear layer that ends each MLP inside a part of the model, by its path; V's layers that P does not read
    have no say in anything."""
    inside = vlm.part(part).named_modules(prefix=part)
    unread = {module for layer in vlm.vision_layers[vlm.vision_depth :] for module in layer.modules()}
    blocks = {n: module for n, module in inside if n.rpartition(".")[2] == "mlp" and module not in unread}
    ends = {}
    for name, block in blocks.items():
        path, linear = [(n, m) for n, m in block.named_modules(prefix=name) if isinstance(m, nn.Linear)][-1]
        ends[path] = linear
    return ends


def weights_of(vlm: VisionLanguageModel, part: str, chosen: Neurons) -> dict[nn.Parameter, torch.Tensor]:
    """Masks of the weights that belong to MLP neurons: what leads to them, their biases, and what leads on from them.

    Args:
        vlm: the model.
        part: of it, as in `mlp_ends`.
        chosen: `[neurons]` bool, by the path of the layer that ends the MLP; an MLP that is not there has none chosen.

    Returns:
        A bool mask for every weight of these MLPs; the bias of the layer that ends one belongs to no neuron.
    """
    masks: dict[nn.Parameter, torch.Tensor] = {}
    for path, end in mlp_ends(vlm, part).items():
        own = chosen.get(path, torch.zeros(end.in_features, dtype=torch.bool)).to(end.weight.device)
        block = vlm.part(path[: path.rfind(".mlp.") + len(".mlp")])
        masks |= {p: torch.zeros_like(p, dtype=torch.bool) for p in block.parameters()}
        masks |= {p: own.expand_as(p) for p in end.parameters() if p.ndim == 2}
        for begin in block.modules():
            if isinstance(begin, nn.Linear) and begin is not end and begin.out_features == end.in_features:
                masks |= {p: own.view(-1, *[1] * (p.ndim - 1)).expand_as(p) for p in begin.parameters()}
    return masks


@contextlib.contextmanager
def listening(
    ends: Mapping[str, nn.Module], hear: Callable[[str, torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """Call `hear(path, neurons)` whenever an MLP ends; what it gives back, if anything, goes on instead."""

    def hook(path: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor] | None]:
        def heard(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor] | None:
            changed = hear(path, args[0])
            return None if changed is None else (changed,)

        return heard

    hooks = [linear.register_forward_pre_hook(hook(path)) for path, linear in ends.items()]
    try:
        yield
    finally:
        for h in hooks:
            h.remove()


@contextlib.contextmanager
def recording(ends: dict[str, nn.Linear], statistic: Statistic = "absolute") -> Iterator[Neurons]:
    """How much neurons fire, over all positions of all forwards inside (padded ones too); complete at the end.

    Several may listen at once, each for its own statistic.
    """
    found: Neurons = {}
    sums: Neurons = {}
    counts: dict[str, int] = {}

    def hear(path: str, neurons: torch.Tensor) -> None:
        z = neurons.detach().float().flatten(0, -2)
        values = {
            "absolute": lambda: z.abs()[None],
            "frequency": lambda: (z.abs() > FIRES)[None],
            "variance": lambda: torch.stack([z, z.square()]),
            "rms": lambda: z.square()[None],
        }[statistic]()
        sums[path] = sums.get(path, 0) + values.sum(1, dtype=torch.float64)  # a variance is a small difference
        counts[path] = counts.get(path, 0) + len(z)

    with listening(ends, hear):
        yield found
    for path, total in sums.items():
        mean = total / counts[path]
        if statistic == "variance":
            mean = (mean[1:] - mean[:1].square()).clamp(min=0)
        found[path] = (mean.sqrt() if statistic in ("variance", "rms") else mean)[0].float()


def specificity(forget: Neurons, retain: Neurons, floor: float = 1e-6) -> Neurons:
    """The ratio of forget to retain activation, `forget / (retain + floor)`, of what `recording` gives."""
    return {path: forget[path] / (retain[path] + floor) for path in forget}


def highest(scores: Neurons, share: float) -> Neurons:
    """Masks of the neurons with the highest scores, over all layers together.

    Args:
        scores: `[neurons]` by path.
        share: of all neurons, above 0 and below 1. At least one is chosen, and all that score like the last of them.

    Returns:
        `[neurons]` bool by path, True for the chosen.
    """
    every = torch.cat(list(scores.values()))
    bar = every.topk(max(1, round(share * len(every)))).values[-1]
    return {path: value >= bar for path, value in scores.items()}


def most_specific(forget: Neurons, retain: Neurons, share: float) -> Neurons:
    """Masks of the neurons with the highest ratio of forget to retain activation; see `specificity` and `highest`."""
    return highest(specificity(forget, retain), share)


@contextlib.contextmanager
def without(ends: dict[str, nn.Linear], neurons: Neurons) -> Iterator[None]:
    """The model with the chosen neurons (True) set to 0."""

    def hear(path: str, given: torch.Tensor) -> torch.Tensor:
        return given.masked_fill(neurons[path].to(given.device), 0)

    with listening(ends, hear):
        yield
