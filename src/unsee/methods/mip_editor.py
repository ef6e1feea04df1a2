"""MIP-Editor: editing paths of influential neurons (Li et al., AAAI 2026, arXiv 2511.06793)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from unsee.data import Request, Sample
from unsee.errors import UnseeError
from unsee.losses import label_log_probs
from unsee.methods.base import Data, Method
from unsee.methods.batch import Batch, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.misdirection import distance, lengths, original_states
from unsee.methods.settings import Ranges, TrainingSettings
from unsee.models import VisionLanguageModel
from unsee.models.lora import add_columns, freeze_picks, pick_columns
from unsee.models.neurons import listening, mlp_ends

NeuronPath = dict[str, torch.Tensor]
"""By path of the layer that ends an MLP, from the first layer to the last: `[count]`, numbers of its neurons."""


@dataclass(frozen=True)
class MIPEditorSettings(TrainingSettings):
    """Settings of MIP-Editor. The loss is `forget + retain_weight * retain`, on hidden states.

    Args:
        neurons: how many of each layer are on the path and are edited.
        parts: paths through the "vision" tower, the "language" model, or "both", as in the paper.
        frames: steps of the Riemann sum by which influence is integrated, the paper's m.
        attributed: how many of the pictures (each with all its questions) and texts to be forgotten are looked at to
            find the paths, at even distances from the first on, the request's own picture; each takes
            `layers * frames` forwards and backwards. So many of each concept, where several are forgotten together.
        prune: set the paths' neurons to 0 before they are trained, as in the paper.
        depth: the states are those behind this share of W's layers (at least one); no layer above is run in training.
        steering: length of what forgotten states are pulled to, in units of the original's own length, the paper's
            lambda.
        retain_weight: weight of the term on what is to be retained, the paper's gamma.
    """

    ranges: ClassVar[Ranges] = {
        **TrainingSettings.ranges,
        "neurons": (1, 4096),
        "frames": (1, 100),
        "attributed": (1, 10_000),
        "depth": (0.01, 1),
        "steering": (0.01, 1000),
        "retain_weight": (1e-6, 1000),
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"parts": ("both", "vision", "language")}

    learning_rate: float = 5e-4
    neurons: int = 5
    parts: str = "both"
    frames: int = 4
    attributed: int = 1
    prune: bool = True
    depth: float = 0.25
    steering: float = 1.0
    retain_weight: float = 1.0


class MIPEditor(Method[MIPEditorSettings]):
    """The neurons through which V and W pass on what is to be forgotten are found layer by layer, set to 0, and
    trained, they alone, by `L = mean |h - v|^2 / n^2 + retain_weight * mean |h - h_original|^2 / n^2`, over answer
    positions of D_f and D_r, with `v = steering * |h_original| * u` and u a random unit vector of each sample.

    The paths are the paper's (see `find_path`): through W by integrated gradients of P(answer), through V by
    integrated squared gradients of log P(answer). What it leaves open is chosen here: one path a part for the whole of
    D_f, not one an input; all chosen neurons of a layer are on the path, not the best alone; P is the mean over answer
    tokens; positions are summed over; W's path is found on questions with pictures too, since what is to be forgotten
    is seldom asked without. A neuron is what enters the layer that ends an MLP, and its weights are that layer's
    column. Dividing by n, the mean length of the original's states on D_f, is ours, as in RMU.
    """

    name: ClassVar[str] = "mip-editor"
    paper: ClassVar[str] = "Influential Neuron Path Editing (MIP-Editor), AAAI 2026, arXiv 2511.06793"
    moves: ClassVar[str] = "some columns of the linear layers that end the MLPs of V and W"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    settings_class: ClassVar[type[MIPEditorSettings]] = MIPEditorSettings

    def samples(self, built: Sequence[Sample], seed: int = 0) -> list[Sample]:
        if self.settings.parts == "vision":  # which texts never meet
            built = [s for s in built if s.picture is not None]
        return super().samples(built, seed)

    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        self._seed = seed
        where = {"vision": vlm.anatomy.vision, "language": vlm.anatomy.language}
        ends = {part: mlp_ends(vlm, path) for part, path in where.items() if self.settings.parts in (part, "both")}
        for part, layers in ends.items():
            for path, linear in layers.items():
                if self.settings.neurons >= linear.in_features:
                    raise UnseeError(
                        f"neurons = {self.settings.neurons}: {path} of the {part} part has {linear.in_features}; "
                        "a path takes some of them, not all"
                    )
        self._layers = {part: list(layers) for part, layers in ends.items()}
        add_columns(vlm, [path for layers in self._layers.values() for path in layers], self.settings.neurons)

    def prepare(self, encoded: Encoded, request: Request) -> None:
        """Find the paths, pick their neurons, and record what states are pulled to.

        Raises:
            UnseeError: no picture is to be forgotten, though the vision tower is to be edited, or no neuron of a part
                has any influence.
        """
        s, vlm = self.settings, encoded.vlm
        self._end = max(1, round(s.depth * vlm.depth))
        states = original_states(self, encoded)
        self._length = float(lengths(states, encoded).mean())
        generator = torch.Generator().manual_seed(self._seed)
        # A normal vector points anywhere with the same chance: u is uniform on the sphere, as in the paper.
        drawn = torch.randn(len(encoded.samples), states[0].shape[1], generator=generator).to(vlm.device)
        self._wanted = dict(states)
        for i, sample in enumerate(encoded.samples):
            if sample.role == "forget":
                length = states[i].norm(dim=-1, keepdim=True)
                self._wanted[i] = s.steering * length * drawn[i] / drawn[i].norm()
        shown = {p.sha256: number for number, one in enumerate(request.every) for p in one.pictures}
        self.paths = {part: self._find(encoded, part, shown) for part in self._layers}
        for chosen in self.paths.values():
            for layer, columns in chosen.items():
                pick_columns(vlm, layer, columns, cleared=s.prune)

    def _find(self, encoded: Encoded, part: str, shown: Mapping[str, int]) -> NeuronPath:
        """The path through a part, on what is to be forgotten, as much of each concept.

        Args:
            encoded: the samples, concept by concept.
            part: "vision" or "language".
            shown: of the requests' pictures, by hash, the number of the request.
        """
        s, vlm = self.settings, encoded.vlm
        groups = encoded.by_input("forget")
        if part == "vision":
            groups = [g for g in groups if encoded.samples[g[0]].picture is not None]
            if not groups:
                raise UnseeError(
                    f"{self.name} edits the vision tower, and no picture is to be forgotten: parts = language"
                )
        concepts: list[list[list[int]]] = []
        last = None
        for group in groups:
            picture = encoded.samples[group[0]].picture
            # A variation, and what is asked without a picture, belongs to the concept before it.
            number = shown.get(picture.sha256, last) if picture is not None else last
            if not concepts or number != last:
                concepts.append([])
            concepts[-1].append(group)
            last = number
        members = [i for own in concepts for group in own[:: -(-len(own) // s.attributed)] for i in group]
        tokens = encoded.totals(members).forget_tokens / encoded.loss_scale  # a path is found by shares

        def asking(batch: Batch) -> Callable[[], torch.Tensor]:
            labels = batch.tensors.labels.to(vlm.device)
            if part == "vision":
                return lambda: label_log_probs(vlm.logits(batch.tensors), labels).sum() / tokens
            with torch.no_grad():  # what W is shown is always the same
                entering = vlm.entering(batch.tensors, 0)
            return lambda: label_log_probs(vlm.logits(batch.tensors, entering), labels).exp().sum() / tokens

        forwards = [asking(batch) for batch, _ in encoded.micro_batches(members)]
        ends = {path: vlm.part(path) for path in self._layers[part]}
        found = find_path(forwards, ends, s.neurons, s.frames, squared=part == "vision")
        if not found:
            raise UnseeError(f"no neuron of the {part} part has any influence on what is to be forgotten")
        return found

    def read(self, vlm: VisionLanguageModel, batch: Batch, layer: int) -> torch.Tensor:
        """`[tokens, hidden]`: the states behind the layer at `depth`; neither the layers above nor the head are run."""
        return vlm.hidden(batch.tensors, batch.entering, layer, self._end).float()

    def output(self, vlm: VisionLanguageModel, states: torch.Tensor) -> torch.Tensor:
        """The states themselves."""
        return states

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        scale = self._length**2
        forget = distance(batch.of("forget", logits), self._wanted, totals.forget_tokens)
        retain = distance(batch.of("retain", logits), self._wanted, totals.retain_tokens)
        return {"forget": forget / scale, "retain": self.settings.retain_weight * retain / scale}

    def parameter_groups(self, vlm: VisionLanguageModel) -> list[dict[str, Any]]:
        freeze_picks(vlm)  # a checkpoint that was read, or the original asked, has let them train
        return super().parameter_groups(vlm)


def find_path(
    forwards: Sequence[Callable[[], torch.Tensor]],
    ends: Mapping[str, nn.Module],
    count: int,
    frames: int,
    squared: bool,
) -> NeuronPath:
    """The neurons through which a model comes to F, chosen greedily layer by layer (equations 4 and 6, algorithm 1).

    The score of a neuron of the next layer is that of the path so far with it,

    `sum_p (sum_n w_n) * (1/frames * sum_k sum_l dF(k/frames * w) / dw_l)`

    with w the activations on the path at position p, and the derivative squared where `squared`. F is a function of
    the activations on the path: these are set to their share k/frames, whatever comes in; all else follows. All
    neurons of the next layer are set to their share at once, so that one backward pass serves all candidates.

    Args:
        forwards: each gives F of some inputs, a scalar, always the same and by one pass through the layers.
        ends: the layers that end the MLPs, in their order.
        count: neurons chosen of each layer, fewer than it has.
        frames: of the Riemann sum.
        squared: False: IGI, of W; True: IFI, of V.

    Returns:
        The path; layers on which F does not depend are left out.
    """
    path: NeuronPath = {}
    on_path: list[dict[str, torch.Tensor]] = [{} for _ in forwards]
    for here in ends:
        listened = {p: ends[p] for p in (*path, here)}
        heard, scores = [], torch.zeros(())
        for forward, known in zip(forwards, on_path, strict=True):
            whole, slopes = _integrated(forward, listened, path, known, here, frames, squared)
            heard.append(whole)
            if slopes is None:
                continue
            # [rows, length, 1] of the path so far, [rows, length, neurons] of the candidates.
            active = sum((known[p].float().sum(-1, keepdim=True) for p in path), torch.zeros((), device=whole.device))
            before = sum((slopes[p].sum(-1, keepdim=True) for p in path), torch.zeros((), device=whole.device))
            scores = scores.to(whole.device) + ((active + whole.float()) * (before + slopes[here])).flatten(0, -2).sum(
                0
            )
        if scores.ndim:
            path[here] = scores.topk(count).indices
            for known, whole in zip(on_path, heard, strict=True):
                known[here] = whole[..., path[here]]
    return path


def _integrated(
    forward: Callable[[], torch.Tensor],
    ends: Mapping[str, nn.Module],
    path: NeuronPath,
    known: Mapping[str, torch.Tensor],
    here: str,
    frames: int,
    squared: bool,
) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
    """Activations of the layer `here`, `[rows, length, neurons]`, and by layer the mean over frames of the derivatives.

    The derivatives are None where F does not depend on this layer.
    """

    def derivatives(values: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """With the path and the layer at the given values; what is not given is as it comes in, and is put there."""
        leaves: dict[str, torch.Tensor] = {}

        def put(at: str, given: torch.Tensor) -> torch.Tensor:
            leaves[at] = values.setdefault(at, given).detach().requires_grad_()
            return leaves[at] if at == here else given.index_copy(-1, path[at], leaves[at])

        with torch.enable_grad(), listening(ends, put):
            result = forward()
            found = torch.autograd.grad(result, [leaves[at] for at in ends], materialize_grads=True)
        return [g.float().square() if squared else g.float() for g in found]

    values = dict(known)  # in the last frame all is as in the model, which tells what the layer's activations are
    sums = derivatives(values)
    for frame in range(1, frames):
        shares = {at: value * (frame / frames) for at, value in values.items()}
        sums = [a + b for a, b in zip(sums, derivatives(shares), strict=True)]
    slopes = {at: total / frames for at, total in zip(ends, sums, strict=True)}
    return values[here].detach(), (slopes if slopes[here].any() else None)
