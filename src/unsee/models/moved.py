"""Pictures placed anew: what a model sees in them is the same, and is seen elsewhere."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F

TURN = 20
"""Degrees, at most, to either side."""
SCALE = 1.3
"""Times larger or smaller, at most."""
SHIFT = 0.1
"""Of the width and the height, at most."""
GAIN, LIGHT = 0.2, 0.3
"""Of each colour: by which share it grows or shrinks, and what is added, in the units of the processor's output."""


def moved(pixels: torch.Tensor, recoloured: Sequence[bool], rng: random.Random) -> torch.Tensor:
    """Each picture turned, scaled and shifted by itself, its border drawn out; some in slightly other colours.

    Args:
        pixels: `[pictures, 3, height, width]`, as an image processor makes them.
        recoloured: for each picture, whether its colours change too.
        rng: of everything drawn here.
    """
    grid = F.affine_grid(torch.tensor([_placed(rng) for _ in recoloured]), list(pixels.shape), align_corners=False)
    found = F.grid_sample(pixels.float(), grid.to(pixels.device), padding_mode="border", align_corners=False)
    for picture in (found[i] for i, changes in enumerate(recoloured) if changes):
        gain = torch.tensor([rng.uniform(1 - GAIN, 1 + GAIN) for _ in range(3)], device=pixels.device)
        light = torch.tensor([rng.uniform(-LIGHT, LIGHT) for _ in range(3)], device=pixels.device)
        picture.mul_(gain[:, None, None]).add_(light[:, None, None])
    return found.to(pixels.dtype)


def _placed(rng: random.Random) -> list[list[float]]:
    """An affine map `[2, 3]` of the square from -1 to 1."""
    turn, scale = math.radians(rng.uniform(-TURN, TURN)), math.exp(rng.uniform(-1, 1) * math.log(SCALE))
    across, down = (2 * rng.uniform(-SHIFT, SHIFT) for _ in range(2))
    cosine, sine = math.cos(turn) / scale, math.sin(turn) / scale
    return [[cosine, -sine, across], [sine, cosine, down]]
