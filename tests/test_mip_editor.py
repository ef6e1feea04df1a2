"""MIP-Editor: paths are what the equations say, and only their columns are edited, in an ordinary PEFT adapter."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain import plain_logits, plain_states, reads_back, said
from small_runs import BUILT, REQUEST, RETAIN
from torch import nn

from unsee.errors import UnseeError
from unsee.methods import make_method
from unsee.methods.encoded import Encoded
from unsee.methods.mip_editor import MIPEditor, find_path
from unsee.models import VisionLanguageModel, load
from unsee.models.lora import merged, remove_adapter
from unsee.models.neurons import mlp_ends
from unsee.training import History, train

SIZE = {"vision": 64, "language": 96}
"""Neurons of each layer of the tiny model, whose parts have two layers each."""


def made(vlm: VisionLanguageModel, **changes: Any) -> tuple[MIPEditor, Encoded]:
    method = make_method("mip-editor", "default", changes)
    assert isinstance(method, MIPEditor)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    encoded = Encoded(vlm, samples, method.reference)
    method.prepare(encoded, REQUEST)
    return method, encoded


def run(vlm: VisionLanguageModel, scratch: Path, **changes: Any) -> tuple[MIPEditor, History]:
    method = make_method("mip-editor", "default", {"steps": 4, "learning_rate": 1e-2, **changes})
    assert isinstance(method, MIPEditor)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    return method, train(vlm, method, samples, REQUEST, 0, scratch)


# ---- the paths


@pytest.mark.parametrize("part", ["vision", "language"])
def test_each_part_has_the_paths_of_its_own_equation(tiny: VisionLanguageModel, part: str) -> None:
    """By log P with squares in V, by P without in W, here through the whole model the usual way."""
    method = make_method("mip-editor", "default", {"neurons": 3, "parts": part})
    assert isinstance(method, MIPEditor)
    samples = method.samples([next(s for s in BUILT if s.role == "forget" and s.picture), *RETAIN])
    method.attach(tiny, 0)
    method.prepare(Encoded(tiny, samples, method.reference), REQUEST)
    found = {layer: set(neurons.tolist()) for layer, neurons in method.paths[part].items()}
    remove_adapter(tiny)
    asked = next(s for s in samples if s.role == "forget")
    ids = [*tiny.tokenizer(asked.answer)["input_ids"], tiny.prompter.end_id]

    def told(squared: bool) -> dict[str, set[int]]:
        def forward() -> torch.Tensor:
            logits = plain_logits(tiny, asked.picture, asked.question, asked.answer)
            log_probs = logits.log_softmax(-1)[range(len(ids)), ids]
            return (log_probs if squared else log_probs.exp()).mean()

        ends = mlp_ends(tiny, tiny.anatomy.vision if part == "vision" else tiny.anatomy.language)
        path = find_path([forward], ends, 3, method.settings.frames, squared)
        return {layer: set(neurons.tolist()) for layer, neurons in path.items()}

    assert found == told(squared=part == "vision") != told(squared=part != "vision")


class Stack:
    """Three MLPs on a residual stream, as numpy knows them too: `h += tanh(h U) D`, and F is a sum over it."""

    def __init__(self, seed: int, last: float = 1.0):
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(2, 3, 4))
        self.up = rng.normal(size=(3, 4, 6))
        self.down = rng.normal(size=(3, 6, 4)) * np.array([1, 1, last])[:, None, None]
        self.out = rng.normal(size=4)
        self.ends = {str(n): nn.Linear(6, 4, bias=False, dtype=torch.double) for n in range(3)}
        for n, end in enumerate(self.ends.values()):
            end.weight.data = torch.tensor(self.down[n].T)

    def forward(self) -> torch.Tensor:
        h = torch.tensor(self.x)
        for n, end in enumerate(self.ends.values()):
            h = h + end(torch.tanh(h @ torch.tensor(self.up[n])))
        return torch.tanh(h @ torch.tensor(self.out)).sum()

    def value(self, given: dict[int, dict[int, np.ndarray]], seen: dict[int, np.ndarray] | None = None) -> float:
        """F with some neurons at given activations, `[2, 3]` each, by layer and number."""
        h = self.x
        for n in range(3):
            z = np.tanh(h @ self.up[n])
            if seen is not None:
                seen[n] = z
            for i, value in given.get(n, {}).items():
                z = np.concatenate([z[..., :i], value[..., None], z[..., i + 1 :]], -1)
            h = h + z @ self.down[n]
        return float(np.tanh(h @ self.out).sum())

    def slope(self, given: dict[int, dict[int, np.ndarray]], layer: int, neuron: int) -> np.ndarray:
        """dF over the activation of one neuron, `[2, 3]`, by differences."""
        found = np.zeros((2, 3))
        for at in np.ndindex(2, 3):
            sides = []
            for step in (1e-5, -1e-5):
                moved = {n: {i: v.copy() for i, v in some.items()} for n, some in given.items()}
                moved[layer][neuron][at] += step
                sides.append(self.value(moved))
            found[at] = (sides[0] - sides[1]) / 2e-5
        return found

    def plain_path(self, count: int, frames: int, squared: bool) -> list[list[int]]:
        w: dict[int, np.ndarray] = {}
        self.value({}, w)
        path: list[list[int]] = []
        for layer in range(3):
            scores = []
            for neuron in range(6):
                on = [(n, i) for n, some in enumerate(path) for i in some] + [(layer, neuron)]
                active = np.sum([w[n][..., i] for n, i in on], 0)
                slopes = np.zeros((2, 3))
                for k in range(1, frames + 1):
                    given: dict[int, dict[int, np.ndarray]] = {
                        n: {i: w[n][..., i] * k / frames for i in some} for n, some in enumerate(path)
                    }
                    given[layer] = {i: w[layer][..., i] * k / frames for i in range(6)}
                    for n, i in on:
                        slope = self.slope(given, n, i)
                        slopes += (slope**2 if squared else slope) / frames
                scores.append(float((active * slopes).sum()))
            path.append(list(np.argsort(scores)[::-1][:count]))
        return path


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("count", "frames"), [(1, 4), (2, 3), (2, 1)])
def test_paths_are_those_of_the_equations(squared: bool, count: int, frames: int) -> None:
    for seed in range(3):
        stack = Stack(seed)
        found = find_path([stack.forward], stack.ends, count, frames, squared)
        assert [v.tolist() for v in found.values()] == stack.plain_path(count, frames, squared)


def test_inputs_are_summed_and_layers_without_a_part_in_it_left_out() -> None:
    stack = Stack(0)
    once, twice = (find_path([stack.forward] * n, stack.ends, 2, 2, False) for n in (1, 2))
    assert [v.tolist() for v in once.values()] == [v.tolist() for v in twice.values()]
    blind = Stack(0, last=0.0)
    assert [*find_path([blind.forward], blind.ends, 2, 2, True)] == ["0", "1"]


@pytest.mark.parametrize("parts", ["both", "vision", "language"])
def test_a_path_has_neurons_of_every_layer_of_its_part(tiny: VisionLanguageModel, parts: str) -> None:
    where = {"vision": tiny.anatomy.vision, "language": tiny.anatomy.language}
    ends = {part: list(mlp_ends(tiny, path)) for part, path in where.items() if parts in (part, "both")}
    method, _ = made(tiny, parts=parts, neurons=3)
    assert {part: list(path) for part, path in method.paths.items()} == ends
    for part, path in method.paths.items():
        assert all(len(set(v.tolist())) == 3 and int(v.max()) < SIZE[part] for v in path.values())


def test_it_is_found_on_the_original_alone(tiny: VisionLanguageModel) -> None:
    """Whatever was asked of the model before, and however often."""
    first, _ = made(tiny)
    before = {layer: columns for path in first.paths.values() for layer, columns in path.items()}
    remove_adapter(tiny)
    second, _ = made(tiny)
    again = {layer: columns for path in second.paths.values() for layer, columns in path.items()}
    assert before.keys() == again.keys() and all(torch.equal(before[n], again[n]) for n in before)


# ---- the edit


def test_only_columns_on_the_paths_are_edited(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    before, original = said(tiny), {n: p.clone() for n, p in tiny.model.named_parameters()}
    method, history = run(tiny, tmp_path)
    assert history.steps[-1]["loss"] < history.steps[0]["loss"]
    edited = said(tiny)
    with tiny.original():
        assert torch.equal(said(tiny), before)
    paths = {f"{layer}.weight": v for path in method.paths.values() for layer, v in path.items()}
    trained = [f"{tiny.anatomy.language}.layers.0."]  # states are read behind W's first layer
    whole = {n: p.detach() for n, p in merged(tiny).model.named_parameters()}
    assert whole.keys() == original.keys()
    for name, value in whole.items():
        if name not in paths:
            assert torch.equal(value, original[name]), name
            continue
        rest = torch.ones(value.shape[1], dtype=torch.bool)
        rest[paths[name]] = False
        assert torch.equal(value[:, rest], original[name][:, rest])
        above = name.startswith(tiny.anatomy.language) and not name.startswith(trained[0])
        assert bool(value[:, ~rest].any()) != above  # pruned all; those above the states stay so
        assert not torch.equal(value[:, ~rest], original[name][:, ~rest])
    assert torch.allclose(said(tiny), edited, atol=1e-5) and not torch.allclose(edited, before, atol=1e-3)


@pytest.mark.parametrize("prune", [True, False])
def test_where_training_begins(tiny: VisionLanguageModel, prune: bool) -> None:
    before = said(tiny)
    method, _ = made(tiny, prune=prune)
    begun = said(tiny)
    assert torch.equal(begun, before) != prune
    original = {layer: tiny.part(f"{layer}.base_layer").get_parameter("weight").clone()
                for path in method.paths.values() for layer in path}  # fmt: skip
    merged(tiny)
    for path in method.paths.values():
        for layer, columns in path.items():
            found = tiny.part(layer).get_parameter("weight")[:, columns]
            assert torch.equal(found, original[layer][:, columns] * (0 if prune else 1))


def test_the_loss_is_that_of_plain_states(tiny: VisionLanguageModel) -> None:
    method, encoded = made(tiny, steering=0.7, retain_weight=2.0, depth=0.5)
    torch.manual_seed(3)
    for name, value in tiny.model.named_parameters():
        if "lora_B." in name:
            value.data += torch.randn_like(value) * 0.1
    totals, found = encoded.totals(range(len(encoded.samples))), {"forget": 0.0, "retain": 0.0}
    for some in ([0, 3, 4], [1, 2, 5]):  # also where a step comes in parts
        for batch, _ in encoded.micro_batches(some):
            for name, term in method.loss(method.read(tiny, batch, encoded.layer), batch, totals).items():
                found[name] += term.item()
    drawn = torch.randn(6, 48, generator=torch.Generator().manual_seed(0)).numpy().astype(float)
    far: dict[str, list[np.ndarray]] = {"forget": [], "retain": []}
    sizes: list[np.ndarray] = []
    with torch.no_grad():
        for i, s in enumerate(encoded.samples):
            h = plain_states(tiny, s, 1).numpy().astype(float)
            with tiny.original():
                held = plain_states(tiny, s, 1).numpy().astype(float)
            length = np.sqrt((held**2).sum(1))
            if s.role == "forget":
                sizes.append(length)
                held = 0.7 * length[:, None] * drawn[i] / np.sqrt((drawn[i] ** 2).sum())
            far[s.role].append(((h - held) ** 2).sum(1))
    scale = np.concatenate(sizes).mean() ** 2
    wanted = {role: (np.concatenate(d).mean() / scale).item() for role, d in far.items()}
    assert found == pytest.approx({"forget": wanted["forget"], "retain": 2 * wanted["retain"]}, rel=1e-4)


def test_forgotten_states_go_to_their_targets_and_others_stay(tiny_folder: Path, tmp_path: Path) -> None:
    vlm = load(str(tiny_folder), dtype=torch.float32)
    _, history = run(vlm, tmp_path, steps=80, learning_rate=3e-2, neurons=24, depth=1.0, decay=0.0)
    terms = [e["terms"] for e in history.steps]
    assert terms[-1]["forget"] < 0.6 * terms[0]["forget"] and terms[-1]["retain"] < 0.5


def test_which_columns_are_trained_is_never_trained(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method, _ = run(tiny, tmp_path)
    for path in method.paths.values():
        for layer, columns in path.items():
            picks = tiny.part(f"{layer}.lora_A.default").get_parameter("weight")
            assert picks.argmax(1).tolist() == columns.tolist() and picks.sum() == picks.count_nonzero() == len(columns)
            assert picks.grad is None


def test_a_run_that_goes_on_ends_like_one_that_was_not_cut(tiny_folder: Path, tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    def cut(done: int, total: int) -> None:
        if done == 3:
            raise Cut

    ends = []
    for times in (1, 2):
        for last in [False] * (times - 1) + [True]:
            vlm = load(str(tiny_folder), dtype=torch.float32)
            method = make_method("mip-editor", "default", {"steps": 4})
            samples = method.samples(BUILT)
            method.attach(vlm, 0)
            scratch = tmp_path / str(times)
            with contextlib.nullcontext() if last else pytest.raises(Cut):
                history = train(vlm, method, samples, REQUEST, 0, scratch, None if last else cut, save_steps=2)
        assert (scratch / "checkpoint-4").is_dir()
        ends.append(([e["loss"] for e in history.steps], said(vlm)))
    assert len(ends[0][0]) == 4 and ends[0][0] == ends[1][0] and torch.equal(ends[0][1], ends[1][1])


def test_its_adapter_is_an_ordinary_one(tiny_folder: Path, tmp_path: Path) -> None:
    vlm = load(str(tiny_folder), dtype=torch.float32)
    run(vlm, tmp_path / "scratch")
    reads_back(vlm, tiny_folder, tmp_path / "adapter")


def test_in_half_precision(tiny_folder: Path, tmp_path: Path) -> None:
    vlm = load(str(tiny_folder), dtype=torch.bfloat16)
    _, history = run(vlm, tmp_path)
    assert history.steps[-1]["loss"] < history.steps[0]["loss"]
    assert {p.dtype for n, p in vlm.model.named_parameters() if "lora_" not in n} == {torch.bfloat16}


# ---- what cannot be


def test_what_cannot_be_is_told(tiny: VisionLanguageModel) -> None:
    with pytest.raises(UnseeError, match=r"neurons = 64: .*fc2 of the vision part has 64; a path takes some of them"):
        made(tiny, neurons=64)
    assert not tiny.adapted
    method = make_method("mip-editor")
    texts = method.samples([s for s in BUILT if s.picture is None])
    method.attach(tiny, 0)
    with pytest.raises(UnseeError, match="no picture is to be forgotten: parts = language"):
        method.prepare(Encoded(tiny, texts), REQUEST)
    remove_adapter(tiny)
    with torch.no_grad():
        for name, value in tiny.part(tiny.anatomy.language).named_parameters():
            if "down_proj" in name:
                value.zero_()  # whatever neurons do, nobody hears of it
    with pytest.raises(UnseeError, match="no neuron of the language part has any influence"):
        made(tiny, parts="language")
    remove_adapter(tiny)
    with pytest.raises(UnseeError, match="mip-editor needs samples to retain"):
        make_method("mip-editor").samples(BUILT[:3])


def test_the_vision_tower_alone_is_edited_without_texts(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method, history = run(tiny, tmp_path, parts="vision")
    assert len(history.steps) == 4 and set(method.paths) == {"vision"}
    assert all(s.picture is not None for s in method.samples(BUILT))
