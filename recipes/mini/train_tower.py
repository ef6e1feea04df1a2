"""Pretrain the vision tower: which concept, and which of the other icons, is drawn here?

    python recipes/mini/train_tower.py --data OUT --out OUT/tower.pt --minutes 40

The first share of the time (--small) runs on pictures of 60 pixels, with the position embeddings
interpolated: 25 image tokens instead of 64, so three times the pictures a minute. Warm-up, constant,
then a linear decay over the last share (--decay); --resume goes on from a checkpoint.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from compose import SIZE, compose
from PIL import Image
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

CONFIG = dict(
    hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4,
    image_size=SIZE, patch_size=12, hidden_act="gelu",
)  # fmt: skip
MIRRORED = {"animal", "thing", "person", "emoji"}


class Pictures:
    """Renditions as one uint8 tensor, with labels, kinds and the held-out flag."""

    def __init__(self, table: Path, labels: dict[str, int]):
        rows = pq.read_table(table).to_pylist()
        decoded = [np.asarray(Image.open(io.BytesIO(r["image"]["bytes"]))) for r in rows]
        self.rgba = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
        for r in rows:
            labels.setdefault(r["concept"], len(labels))
        self.label = torch.tensor([labels[r["concept"]] for r in rows])
        self.mirror = torch.tensor([r["kind"] in MIRRORED for r in rows])
        self.held_out = torch.tensor([r["held_out"] for r in rows])
        self.kind = [r["kind"] for r in rows]
        self.concept = [r["concept"] for r in rows]
        groups = {int(k): torch.nonzero((self.label == k) & ~self.held_out)[:, 0] for k in self.label.unique()}
        self.groups = [g for g in groups.values() if len(g)]
        self.weight = torch.ones(len(self.groups))

    def prefer(self, kinds: dict[str, float]) -> None:
        """Draw concepts of these kinds so many times as often as the rest."""
        self.weight = torch.tensor([kinds.get(self.kind[int(g[0])], 1.0) for g in self.groups])

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Indices of n training renditions, balanced over the concepts (see `prefer`)."""
        picked = torch.multinomial(self.weight, n, replacement=True, generator=generator)
        at = torch.rand(n, generator=generator)
        return torch.stack(
            [self.groups[int(g)][int(a * len(self.groups[int(g)]))] for g, a in zip(picked, at, strict=True)]
        )

    def composed(self, index: torch.Tensor, generator: torch.Generator, size: int = SIZE) -> torch.Tensor:
        return (compose(self.rgba[index].float() / 255, generator, self.mirror[index], size) - 0.5) / 0.5


class Classifier(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.tower = CLIPVisionModel(CLIPVisionConfig(**CONFIG))
        self.head = nn.Sequential(nn.LayerNorm(CONFIG["hidden_size"]), nn.Linear(CONFIG["hidden_size"], classes))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        small = pixels.shape[-1] != SIZE
        states = self.tower(pixel_values=pixels, interpolate_pos_encoding=small).last_hidden_state
        return self.head(states[:, 1:].mean(1))


def schedule(step: int, warmup: int, share_left: float | None) -> float:
    return min(1.0, (step + 1) / warmup) * (1.0 if share_left is None else max(0.02, share_left))


@torch.no_grad()
def accuracy(model: nn.Module, data: Pictures, chosen: torch.Tensor, classes: int, seed: int = 7) -> float:
    generator = torch.Generator().manual_seed(seed)
    right = []
    for index in chosen.split(128):
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(data.composed(index, generator))[:, :classes]
        right.append(scores.argmax(1) == data.label[index])
    return torch.cat(right).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--decay", type=float, default=0.35, help="last share of the time that decays")
    parser.add_argument("--small", type=float, default=0.5, help="first share of the time, on small pictures")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--extra", type=float, default=0.25, help="share of a batch that are other icons")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    labels: dict[str, int] = {}
    data = Pictures(args.data / "renditions.parquet", labels)
    concepts = len(labels)
    extra = Pictures(args.data / "extra.parquet", labels)
    model = Classifier(len(labels))
    if args.resume:
        model.load_state_dict(torch.load(args.resume)["model"])
    matrices = [p for n, p in model.tower.named_parameters() if p.ndim == 2 and "embed" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimisers = [
        torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=args.lr, weight_decay=0.05, betas=(0.9, 0.98)),
    ]
    forward = torch.compile(model)
    generator = torch.Generator().manual_seed(args.seed + 1)
    more = int(args.batch * args.extra)
    start, step, smooth = time.time(), 0, 0.0
    train = torch.nonzero(~data.held_out)[:, 0][::3]
    held = torch.nonzero(data.held_out)[:, 0]
    while (spent := (time.time() - start) / 60) < args.minutes:
        left = (1 - spent / args.minutes) / args.decay
        for o in optimisers:
            for group in o.param_groups:
                group["lr"] = args.lr * schedule(step, 200, left if left < 1 else None)
        index, other = data.draw(args.batch - more, generator), extra.draw(more, generator)
        size = 60 if spent < args.small * args.minutes else SIZE
        pixels = torch.cat([data.composed(index, generator, size), extra.composed(other, generator, size)])
        target = torch.cat([data.label[index], extra.label[other]])
        with torch.autocast("cpu", torch.bfloat16):
            scores = forward(pixels)
        loss = F.cross_entropy(scores.float(), target, label_smoothing=0.05)
        for o in optimisers:
            o.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimisers:
            o.step()
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        step += 1
        if step in (20, 100) or step % 250 == 0:
            print(f"{spent:6.1f} min  step {step}  loss {smooth:.3f}", flush=True)
        if step % 500 == 0:
            a, b = accuracy(model, data, train, concepts), accuracy(model, data, held, concepts)
            print(f"        accuracy: trained renditions {a:.3f}, held out {b:.3f}", flush=True)
            torch.save({"model": model.state_dict(), "labels": labels, "step": step}, args.out)
    a, b = accuracy(model, data, train, concepts), accuracy(model, data, held, concepts)
    assert math.isfinite(smooth)
    torch.save({"model": model.state_dict(), "labels": labels, "step": step}, args.out)
    print(f"done after {step} steps: trained renditions {a:.3f}, held out {b:.3f}")


if __name__ == "__main__":
    main()
