"""One measurement: a path, a task, a cell. Runs in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from speed_parts import machine
from speed_parts.arithmetic import useful_flop
from speed_parts.best_plain import BestPlain, BestPlainOnCache
from speed_parts.forgetting import forgotten
from speed_parts.ours import CrossEntropyAlone, Form, Ours, OursVKD, synchronise
from speed_parts.peer import FullGD, Peer
from speed_parts.world import (
    CONCEPT,
    RANK,
    World,
    picture,
    questions,
    samples_on_picture,
    shown_set,
    standard_set,
)
from unsee.benchmarks.protocol import Item, Protocol, Recorder
from unsee.data import Sample
from unsee.methods import make_method
from unsee.methods.encoded import Encoded
from unsee.methods.vkd import VKDSettings
from unsee.models import answering, load
from unsee.models.lora_linear import LoraLinear
from unsee.models.memory import peak_gib


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is done; `--smoke` makes all of it tiny.

    Args:
        shown: samples on the picture of a training pass.
        standard: of the standard SIU set, with the picture and without.
        visual: of VKD's set, as many as a default step reads: with the picture, and other pictures.
        asked: questions to answer.
        limit: tokens of an answer.
        growth: questions on the picture, for the growth curve.
        agreement: samples whose gradients are compared.
        search: sizes tried for the best plain path, in training and in answering.
        matmul: sides of the square matrices.
        forgotten: pictures and questions where a concept is forgotten; see `unsee.benchmarks.mini.protocol`.
    """

    shown: int = 24
    standard: tuple[int, int] = (11, 14)
    visual: tuple[int, int] = (VKDSettings.forget_per_step, VKDSettings.distilled_per_step)
    asked: int = 100
    limit: int = 16
    growth: tuple[int, ...] = (1, 2, 5, 10, 25, 50, 100, 200)
    agreement: int = 8
    search: tuple[tuple[int, ...], tuple[int, ...]] = ((1, 2, 4, 8, 12, 24), (8, 16, 32, 50, 100))
    matmul: tuple[int, ...] = (1024, 2048, 4096)
    forgotten: tuple[tuple[str, int], ...] = (
        ("test_pictures", 12),
        ("utility_pictures", 1),
        ("neighbour_pictures", 2),
        ("general_questions", 1),
    )


SMOKE = Sizes(6, (3, 2), (3, 2), 6, 5, (1, 2, 4), 6, ((2, 4), (2, 4)), (64,))


def run(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """Do a task and return its numbers. `task["do"]` names a function of this module."""
    done: Callable[..., dict[str, Any]] = TASKS[task["do"]]
    return {"load": machine.load(), **done(task, folder, sizes, device)}


def opened(folder: Path, device: str, dtype: str) -> World:
    return World(load(str(folder), device, getattr(torch, dtype)), picture())


PLAIN = {"best plain": BestPlain, BestPlainOnCache.name: BestPlainOnCache}


def path_of(world: World, task: dict[str, Any]) -> Any:
    """The path of a task, with the LoRA on."""
    if task["path"] == "peer":
        return Peer(world)
    if task["path"] in PLAIN:
        return PLAIN[task["path"]](world, **task["settings"])
    if task["do"] == "train without reference":
        return Ours(world, method=CrossEntropyAlone(world.method.settings))
    return Ours(world, task.get("form", "slices"))


@contextlib.contextmanager
def counting(path: Any) -> Iterator[dict[str, int]]:
    """Counts the token cells (padding included) that go through decoders, and their forwards."""
    seen = {"tokens": 0, "forwards": 0}

    def count(module: Any, args: Any, kwargs: Any) -> None:
        entering = kwargs["inputs_embeds"]
        seen["tokens"] += entering.shape[0] * entering.shape[1]
        seen["forwards"] += 1

    hooks = [m.register_forward_pre_hook(count, with_kwargs=True) for m in path.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def train(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """One pass over a set of samples and one Adam step, after a short pass that warms up."""
    world = opened(folder, device, task["dtype"])
    place = world.vlm.device
    base = machine.resident_gib(place)
    path = path_of(world, task)
    samples = samples_on_picture(sizes.shown) if task["set"] == "one picture" else standard_set(*sizes.standard)
    path.train(samples[:4])
    with counting(path) as seen:
        found = step_of(path, world, samples)
    return {**found, "base_gib": base, **seen, "parts": getattr(path, "seconds", {})}


def step_of(path: Any, world: World, samples: Sequence[Sample]) -> dict[str, Any]:
    """Seconds of one pass and one Adam step, and the highest memory so far."""
    optimiser = torch.optim.Adam(world.trained().values(), lr=3e-4)
    optimiser.zero_grad()
    synchronise(world.vlm)
    begin = time.perf_counter()
    loss = path.train(samples)
    optimiser.step()
    synchronise(world.vlm)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "peak_gib": peak_gib(world.vlm.device), "loss": loss}


def of_method(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """One pass over the standard set and one Adam step with the loss of another method of this project."""
    world = opened(folder, device, task["dtype"])
    path = Ours(world, method=make_method(task["method"]))
    samples = standard_set(*sizes.standard)
    path.train(samples[:2] + samples[-2:])
    return step_of(path, world, samples)


def vkd(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """A step of VKD, its distillation alone, or a step of gradient difference on all weights, on the same samples."""
    world = opened(folder, device, task["dtype"])
    samples = shown_set(*sizes.visual)
    full = task["what"].startswith("full GD")
    if not full:
        path: Any = OursVKD(world, samples, task["what"] == "step")
    elif "settings" in task:
        path = FullGD(world, task["settings"]["batch"], everywhere=False)
    else:
        path = FullGD(world)
    path.train(samples[:4] if full else samples)  # warms up
    return step_of(path, world, samples)


def answers(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """Greedy answers to many questions about one picture."""
    world = opened(folder, device, task["dtype"])
    base = machine.resident_gib(world.vlm.device)
    path = path_of(world, task)
    asked = questions(sizes.asked)
    path.answers(asked[:2], 2)
    with counting(path) as seen:
        synchronise(world.vlm)
        begin = time.perf_counter()
        said = path.answers(asked, sizes.limit)
        synchronise(world.vlm)
        seconds = time.perf_counter() - begin
    peak = peak_gib(world.vlm.device)
    return {"seconds": seconds, "peak_gib": peak, "base_gib": base, **seen, "generated": sum(map(len, said))}


def search(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """What suits the best plain path: the size of its batches, and in training how attention is computed.

    Returns:
        "tried": seconds a sample or question, over eight of them or a batch, the smallest batches first, until they
        take 1.3 times as long as the fastest. "best": the settings of the path.
    """
    world = opened(folder, device, task["dtype"])
    trains = task["set"] == "one picture"
    path = (BestPlainOnCache if task["set"] == "questions, prompt cached" else BestPlain)(world)
    samples, asked = samples_on_picture(sizes.shown), questions(sizes.asked)
    tried: dict[str, float] = {}

    def seconds(size: int) -> float:
        count = min(max(size, 8), len(samples if trains else asked))
        synchronise(world.vlm)
        begin = time.perf_counter()
        if trains:
            path.batch = size
            path.train(samples[:count])
        else:
            path.answer_batch = size
            path.answers(asked[:count], sizes.limit)
        synchronise(world.vlm)
        ways = [path.attention, "cast" if path.casting else "not cast"] if trains else []
        found = tried[", ".join([str(size), *ways])] = (time.perf_counter() - begin) / count
        return found

    sizes_tried = sizes.search[0 if trains else 1]
    seconds(sizes_tried[0])  # warms up
    found: list[tuple[float, int]] = []
    for size in sizes_tried:
        found.append((seconds(size), size))
        if found[-1][0] > 1.3 * min(found)[0]:
            break
    least, size = min(found)
    if not trains:
        return {"tried": tried, "best": {"answer_batch": size}}
    path.attention = "eager"
    least, path.attention = min((least, "sdpa"), (seconds(size), "eager"))
    path.casting = False
    path.casting = seconds(size) >= least
    return {"tried": tried, "best": {"batch": size, "attention": path.attention, "casting": path.casting}}


def agreement(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """Whether all paths give the same loss, the same gradients and the same answers.

    Returns, for each path and form, the largest difference to the peer's loss and LoRA gradients, relative to the
    largest value; and of the answers, how many differ, and where they do, how far apart the two tokens' logits were.
    """
    samples, asked = samples_on_picture(sizes.agreement), questions(sizes.asked)
    at = sizes.standard[0]
    mixed = standard_set(*sizes.standard)[max(0, at - 3) : at + 3]  # with the picture, and without
    found: dict[str, Any] = {"loss": {}, "gradients": {}, "compared": {}, "answers": {}}
    world = opened(folder, device, task["dtype"])
    paths: dict[str, Any] = {"peer": Peer(world)}
    bare: Any = dataclasses.replace(world)
    bare.attach = lambda layers: None  # the LoRA is on already
    paths["best plain"] = BestPlain(bare, 4, answer_batch=4)
    paths["best plain, other ways"] = BestPlain(bare, 3, "eager", casting=False)
    paths[BestPlainOnCache.name] = BestPlainOnCache(bare, 4, answer_batch=4)
    paths |= {form: Ours(bare, form) for form in ("slices", "mask", "cache")}
    for name, some in (("one picture", samples), ("mixed", mixed)):
        wanted: tuple[float, dict[str, torch.Tensor]] | None = None
        for kind, path in paths.items():
            if kind == BestPlainOnCache.name or (name == "mixed" and kind == "cache"):
                continue  # the first trains as the best plain path does, the second is written for one picture
            world.vlm.sliced = kind != "mask"
            world.compute_with(path.layers)
            loss, gradients = gradients_of(world, path, some)
            wanted = wanted or (loss, gradients)
            found["loss"][f"{kind}, {name}"] = abs(loss - wanted[0]) / abs(wanted[0])
            found["gradients"][f"{kind}, {name}"] = max(
                float((g - wanted[1][n]).abs().max() / wanted[1][n].abs().max()) for n, g in gradients.items()
            )
            found["compared"][f"{kind}, {name}"] = len(gradients)
    world.vlm.sliced = True
    said = {}
    for kind in ("peer", *PLAIN, "slices"):
        world.compute_with(paths[kind].layers)
        said[kind] = paths[kind].answers(asked, sizes.limit)
    for kind in (*PLAIN, "slices"):
        pairs = [(q, a, b) for q, a, b in zip(asked, said["peer"], said[kind], strict=True) if a != b]
        found["answers"][kind] = [closeness(world, q, a, b) for q, a, b in pairs]
    found["different_answers"] = {k: len(v) for k, v in found["answers"].items()}
    found["distinct"] = len({tuple(a) for a in said["peer"]})
    with counting_prefixes(world) as seen:
        paths["slices"].answers(asked, sizes.limit)
    found["prefixes_for_answers"] = seen["prefixes"]
    return found


def gradients_of(world: World, path: Any, samples: Sequence[Sample]) -> tuple[float, dict[str, torch.Tensor]]:
    world.vlm.model.zero_grad()
    loss = path.train(samples)
    return loss, {n: p.grad.clone() for n, p in world.trained().items() if p.grad is not None}


@torch.no_grad()
def closeness(world: World, question: str, one: list[int], other: list[int]) -> dict[str, float]:
    """How far apart two answers' logits were where they part, and the spacing of bfloat16 numbers of that size."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    end = world.vlm.prompter.end_id
    first, second = ((s[at] if at < len(s) else end) for s in (one, other))
    vlm = world.vlm
    inputs = vlm.processor(
        text=world.prompt(question, True), images=[world.picture.image], return_tensors="pt"
    ).to(vlm.device)  # fmt: skip
    ids = torch.cat([inputs["input_ids"], torch.tensor([one[:at]], dtype=torch.long, device=vlm.device)], 1)
    pixels = inputs["pixel_values"].to(vlm.base.dtype)
    with world.plain_autocast():
        logits = vlm.model(input_ids=ids, pixel_values=pixels, logits_to_keep=1).logits[0, -1].float()
    size = float(logits[first].abs())
    return {
        "gap": float((logits[first] - logits[second]).abs()),
        "spacing": 2.0 ** (torch.tensor(size).log2().floor().item() - 7),
    }


@contextlib.contextmanager
def counting_prefixes(world: World) -> Iterator[dict[str, int]]:
    """Counts how often a picture's prefix goes through the decoder, and for what."""
    seen = {"prefixes": 0, "in_scoring": 0, "generations": 0, "scoring_forwards": 0}
    library: Any = answering
    vlm: Any = world.vlm
    encode, rows, scored, hidden = library.encode_prefix, library._answer_rows, library._log_probs, vlm.hidden

    def encoding(vlm: Any, pictures: Any) -> Any:
        seen["prefixes"] += len(pictures)
        return encode(vlm, pictures)

    def generating(*args: Any) -> Any:
        seen["generations"] += 1
        return rows(*args)

    def scoring_behind(*args: Any) -> Any:
        seen["scoring_forwards"] += 1
        return scored(*args)

    def scoring(batch: Any, *args: Any) -> torch.Tensor:
        seen["in_scoring"] += len(batch.pictures)
        seen["scoring_forwards"] += 1
        return hidden(batch, *args)

    library.encode_prefix, library._answer_rows, library._log_probs = encoding, generating, scoring_behind
    vlm.hidden = scoring
    try:
        yield seen
    finally:
        library.encode_prefix, library._answer_rows, library._log_probs = encode, rows, scored
        del vlm.hidden


def counts(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """What one question set costs in forwards, all metrics of it: the recorder of `unsee forget`, before and after."""
    world = opened(folder, device, task["dtype"])
    world.attach(LoraLinear)
    asked = samples_on_picture(sizes.asked)
    items = []
    for s in asked:
        form, keywords = ("name", CONCEPT.names) if s.facet == "T1" else ("yes_no", ("yes",))
        items.append(Item("forget", form, CONCEPT, s.question, keywords, world.picture))
    recorder, protocol = Recorder(world.vlm, max_new_tokens=sizes.limit), Protocol(CONCEPT, items)
    found: dict[str, Any] = {"questions": len(items)}
    for side in ("before", "after"):
        with counting_prefixes(world) as seen:
            getattr(recorder, side)(protocol)
        found[side] = dict(seen)
    return found


def growth(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """Seconds of a training pass, reference included, by the number of questions on one picture."""
    form: Form = task["form"]
    world = opened(folder, device, task["dtype"])
    path = Ours(world, form)
    path.train(samples_on_picture(sizes.growth[1]))
    seconds: dict[int, float] = {}
    for count in sizes.growth:
        if form == "cache" and count > 100:
            break  # at 576 tokens a copy of the prefix's keys and values for each of 200 questions takes some 15 GB
        world.vlm.model.zero_grad()
        samples = samples_on_picture(count)
        begin = time.perf_counter()
        path.train(samples)
        synchronise(world.vlm)
        seconds[count] = time.perf_counter() - begin
    return {"seconds": seconds, "peak_gib": peak_gib(world.vlm.device)}


def forget(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """How long a path takes to forget a concept, and how well it does."""
    vlm = opened(folder, device, task["dtype"]).vlm
    asked = task["path"], task["concept"], task["seed"], task["changes"], task.get("settings", {})
    return forgotten(vlm, *asked, dict(sizes.forgotten))


def profile(task: dict[str, Any], folder: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """Useful arithmetic of recording and of a step against the peak of a matrix product, and where the time goes."""
    world = opened(folder, device, task["dtype"])
    place = world.vlm.device
    # Ours as it stands: the same path and form as in the first row.
    path = Ours(world)
    samples = samples_on_picture(sizes.shown)
    path.train(samples)
    world.vlm.model.zero_grad()
    peaks = {
        str(d).removeprefix("torch."): max(machine.matmul_peak(d, size, place) for size in sizes.matmul)
        for d in dict.fromkeys((getattr(torch, task["dtype"]), torch.float32))
    }
    path.train(samples)
    encoded = Encoded(world.vlm, samples, "vocabulary")
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if place.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiler:
        path.step(encoded)
        synchronise(world.vlm)
    flop = useful_flop(world.vlm.base.config.get_text_config(), len(world.vlm.prompter.prefix), encoded.suffixes, RANK)
    peak = peaks[task["dtype"]]
    return {
        "flop": flop,
        "seconds": path.seconds,
        "peaks": peaks,
        "fraction": {k: flop[k] / path.seconds[k] / peak for k in flop},
        "self_time": self_times(profiler, place.type == "cuda"),
    }


def self_times(profiler: Any, cuda: bool, most: int = 20) -> list[tuple[str, float, int]]:
    """Operators by the time spent in themselves: name, share of the total in per cent, calls."""
    rows = [
        (e.key, e.self_device_time_total if cuda else e.self_cpu_time_total, e.count) for e in profiler.key_averages()
    ]
    total = sum(time_ for _, time_, _ in rows) or 1.0
    rows.sort(key=lambda row: -row[1])
    return [(name, round(100 * time_ / total, 2), count) for name, time_, count in rows[:most]]


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "train": train,
    "train without reference": train,
    "method": of_method,
    "vkd": vkd,
    "answers": answers,
    "search": search,
    "agreement": agreement,
    "counts": counts,
    "growth": growth,
    "forget": forget,
    "profile": profile,
}
