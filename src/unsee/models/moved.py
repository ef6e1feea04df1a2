"""Pictures placed anew, in another light: what a model sees in them is the same, and is seen elsewhere."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F

TURN = 20
"""Degrees, at most, to either side."""
SCALE = 2.0
"""Times larger or smaller, at most: what fills the one picture at hand is a corner of another."""
SHIFT = 0.2
"""Of the width and the height, at most."""
MIRRORED = 0.5
"""The share of pictures that are mirrored: who looks to the left in the one picture looks to the right in another."""
GAIN, LIGHT = 0.2, 0.3
"""Of each colour: by which share it grows or shrinks, and what is added, in the units of the processor's output."""


def moved(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Each picture turned, scaled, shifted, mirrored or not, and lit by itself, its border drawn out.

    Args:
        pixels: `[pictures, 3, height, width]`, as an image processor makes them.
        rng: of everything drawn here.
    """
    drawn = [(_placed(rng), _lit(rng)) for _ in range(len(pixels))]
    grid = F.affine_grid(torch.tensor([placed for placed, _ in drawn]), list(pixels.shape), align_corners=False)
    found = F.grid_sample(pixels.float(), grid.to(pixels.device), padding_mode="border", align_corners=False)
    gain, light = torch.tensor([lit for _, lit in drawn], device=pixels.device)[..., None, None].unbind(1)
    return (found * gain + light).to(pixels.dtype)


def _placed(rng: random.Random) -> list[list[float]]:
    """An affine map `[2, 3]` of the square from -1 to 1."""
    turn, scale = math.radians(rng.uniform(-TURN, TURN)), math.exp(rng.uniform(-1, 1) * math.log(SCALE))
    across, down = (2 * rng.uniform(-SHIFT, SHIFT) for _ in range(2))
    cosine, sine = math.cos(turn) / scale, math.sin(turn) / scale
    side = -1 if rng.random() < MIRRORED else 1
    return [[side * cosine, -sine, across], [side * sine, cosine, down]]


def _lit(rng: random.Random) -> list[list[float]]:
    """Each colour's gain, and what is added to it, `[2, 3]`."""
    return [[rng.uniform(1 - GAIN, 1 + GAIN) for _ in range(3)], [rng.uniform(-LIGHT, LIGHT) for _ in range(3)]]
