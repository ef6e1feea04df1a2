"""A linear layer with a LoRA, computed together: what PEFT's own layer computes, in half the passes over memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import nn


class _Together(torch.autograd.Function):
    """`x W^T + bias + (x A^T) (s B)^T`, in W's type.

    The scale goes to B, the smallest of the factors, and both products are added up in place, forwards and backwards.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        w: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        s: float,
    ) -> torch.Tensor:
        down, up = a.to(w.dtype), (b * s).to(w.dtype)
        rows = x.to(w.dtype).reshape(-1, w.shape[1])
        low = rows @ down.T
        out = F.linear(rows, w, bias).addmm_(low, up.T)
        ctx.save_for_backward(rows, low, w, down, up)
        ctx.scale, ctx.types = s, (x.dtype, a.dtype)
        return out.view(*x.shape[:-1], w.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        rows, low, w, down, up = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        g = gradient.reshape(-1, w.shape[0])
        pulled = g @ up
        of_x = of_a = of_b = None
        if wanted[0]:
            of_x = (g @ w).addmm_(pulled, down).view(*gradient.shape[:-1], w.shape[1]).to(ctx.types[0])
        if wanted[3]:
            of_a = (pulled.T @ rows).to(ctx.types[1])
        if wanted[4]:
            of_b = (g.T @ low).to(ctx.types[1]) * ctx.scale
        return of_x, None, None, of_a, of_b, None


class LoraLinear(Linear):
    """PEFT's layer, but for the arithmetic of one plain active adapter; its weights and files are PEFT's."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        active = [n for n in self.active_adapters if n in self.lora_A]
        layer = self.get_base_layer()
        plain = (
            len(active) == 1
            and not (self.disable_adapters or self.merged or self.lora_variant or args or kwargs)
            and type(layer) is nn.Linear
            and not layer.weight.requires_grad
            and isinstance(self.lora_dropout[active[0]], nn.Identity)
            and self.lora_B[active[0]].bias is None
        )
        if not plain:
            return super().forward(x, *args, **kwargs)
        a, b = self.lora_A[active[0]].weight, self.lora_B[active[0]].weight
        return _Together.apply(x, layer.weight, layer.bias, a, b, self.scaling[active[0]])
