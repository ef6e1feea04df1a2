"""Compositions: a rendition placed, turned, scaled and tinted on a background, all from one seed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

SIZE = 96
"""Side of a composed picture in pixels, the vision tower's input."""


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _backgrounds(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Light plain, graded or cloudy backgrounds, `[n, 3, size, size]`; icons are drawn for light ground."""
    corners = 0.55 + 0.45 * torch.rand(n, 3, 4, 4, generator=generator)
    plain = corners[:, :, :1, :1].expand(n, 3, size, size)
    graded = F.interpolate(corners[:, :, :2, :2], size=(size, size), mode="bilinear", align_corners=True)
    cloudy = F.interpolate(corners, size=(size, size), mode="bicubic", align_corners=True)
    choice = torch.randint(0, 3, (n, 1, 1, 1), generator=generator)
    return torch.where(choice == 0, plain, torch.where(choice == 1, graded, cloudy)).clamp(0, 1)


def compose(
    renditions: torch.Tensor, generator: torch.Generator, mirror: torch.Tensor | None = None, size: int = SIZE
) -> torch.Tensor:
    """Draw one composition of each rendition.

    Args:
        renditions: RGBA drawings with straight alpha, `[n, 4, h, w]` in 0..1.
        generator: the only source of chance: the same state gives the same pictures.
        mirror: `[n]` bool, which drawings may be flipped left to right (flags and logos may not).
        size: side of the result in pixels.

    Returns:
        RGB pictures `[n, 3, size, size]` in 0..1: turned by up to 22 degrees, scaled to 0.55 to 1.0 of
        the frame, stretched by up to 10 %, shifted so that most of it stays inside, brightness and
        colour moved a little, with faint noise.
    """
    n = len(renditions)
    angle = _uniform(n, -22, 22, generator) * math.pi / 180
    scale = _uniform(n, 0.55, 1.0, generator)
    stretch = _uniform(n, 0.9, 1.1, generator)
    room = 1.06 - scale
    shift_x = _uniform(n, -1, 1, generator) * room
    shift_y = _uniform(n, -1, 1, generator) * room
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    flip = torch.ones(n) if mirror is None else torch.where(mirror, flip, 1.0)
    # affine_grid maps output to input coordinates: the inverse of place, turn, scale.
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows_x = torch.stack([cos / (scale * stretch), sin / (scale * stretch)], 1)
    rows_y = torch.stack([-sin * stretch / scale, cos * stretch / scale], 1)
    shift = torch.stack([shift_x, shift_y], 1)
    x = torch.cat([rows_x, -(rows_x * shift).sum(1, keepdim=True)], 1) * flip[:, None]
    y = torch.cat([rows_y, -(rows_y * shift).sum(1, keepdim=True)], 1)
    grid = F.affine_grid(torch.stack([x, y], 1), [n, 4, size, size], align_corners=False)
    alpha = renditions[:, 3:]
    premultiplied = torch.cat([renditions[:, :3] * alpha, alpha], 1)
    drawn = F.grid_sample(premultiplied, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    picture = drawn[:, :3] + _backgrounds(n, size, generator) * (1 - drawn[:, 3:])
    gain = _uniform(n * 3, 0.92, 1.08, generator).view(n, 3, 1, 1)
    bright = _uniform(n, 0.82, 1.12, generator).view(n, 1, 1, 1)
    noise = torch.randn(n, 3, size, size, generator=generator) * 0.015
    return (picture * gain * bright + noise).clamp(0, 1)
