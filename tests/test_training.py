"""The trainer: what it moves, what it leaves, how it goes on after an interruption, when it stops."""

from __future__ import annotations

import errno
import json
import math
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import draw
from plain import close
from small_runs import Weights, changed, weights

from unsee.data import Concept, Request, Sample
from unsee.errors import TrainingError, UnseeError
from unsee.methods import gradients as library
from unsee.methods import make_method
from unsee.methods.encoded import Encoded
from unsee.methods.saliency import fisher
from unsee.methods.siu import SIU
from unsee.models import VisionLanguageModel, load
from unsee.models.lora import add_lora, load_adapter, merged, remove_adapter, save_adapter, settle_copies
from unsee.models.packing import EncodedPack, collate
from unsee.training import EXPLODED, History, UnlearningTrainer, exploded, train

CIRCLE, SQUARE = draw("circle"), draw("square")
REQUEST = Request(Concept("circle", "thing"), (CIRCLE,))
SAMPLES = [
    Sample("What object is in the image?", "This is a blob.", CIRCLE, "a blob", "forget", "T1"),
    Sample("Is it a circle?", "No, this is a blob.", CIRCLE, "No, this is a blob.", "forget", "T2"),
    Sample("What is a circle?", "A circle is round.", None, None, "retain", "T3"),
    Sample("What is a cross?", "It is two bars.", None, None, "retain", "T4"),
    Sample("What object is in the image?", "This is a square.", SQUARE, None, "retain", "protected"),
]

ALL_LAYERS = {"upper_layers": 1.0, "decay": 0.0, "learning_rate": 5e-3}


def forget(
    vlm: VisionLanguageModel,
    scratch: Path,
    preset: str = "default",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    save_steps: int = 0,
    **changes: Any,
) -> History:
    method = make_method("siu", preset, {**ALL_LAYERS, "steps": 4, "rank": 4, "lora_alpha": 8, **changes})
    method.attach(vlm, seed)
    return train(vlm, method, SAMPLES, REQUEST, seed, scratch, progress, save_steps)


# ---- what moves


def test_only_the_lora_inside_the_language_model_moves(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    original = weights(tiny)
    add_lora(tiny, rank=4, alpha=8, seed=0)
    begin = weights(tiny)
    remove_adapter(tiny)
    forget(tiny, tmp_path)
    end = weights(tiny)
    moved = changed(begin, end)
    adapters = {n for n in end if "lora_" in n}
    assert moved == adapters
    assert all(".language_model." in n for n in adapters) and not any("lm_head" in n for n in adapters)
    # Every linear layer of W has one: 2 layers of 7, an A and a B each.
    assert len(adapters) == 2 * 7 * 2
    assert not any("lora_" in n for n in end if "vision" in n or "projector" in n)
    remove_adapter(tiny)
    assert weights(tiny).keys() == original.keys() and changed(original, weights(tiny)) == set()


def test_upper_layers_alone_can_carry_the_lora(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    before = weights(tiny)
    forget(tiny, tmp_path, upper_layers=0.5)
    adapters = {n for n in weights(tiny) if "lora_" in n}
    assert len(adapters) == 7 * 2 and all(".layers.1." in n for n in adapters)
    assert all("lora_B" not in n or p.abs().sum() > 0 for n, p in tiny.model.named_parameters() if n in adapters)
    remove_adapter(tiny)
    assert changed(before, weights(tiny)) == set()


def test_the_authors_script_moves_a_copy_of_the_projector(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    original = weights(tiny)
    sha = tiny.weights_sha256()
    forget(tiny, tmp_path, "authors-script", projector_learning_rate=1e-2)
    end = weights(tiny)
    copies = {n for n in end if ".modules_to_save." in n}
    originals = {n for n in end if ".original_module." in n}
    assert copies and all("projector" in n for n in copies) and len(copies) == len(originals)
    for name in originals:
        plain = name.replace("base_model.model.", "").replace(".original_module", "")
        assert torch.equal(end[name], original[plain])
        assert not torch.equal(end[name.replace("original_module", "modules_to_save.default")], original[plain])
    others = [n for n in end if "lora_" not in n and n not in copies]
    plain_names = [n.replace("base_model.model.", "").replace(".original_module", "") for n in others]
    for name, plain in zip(others, plain_names, strict=True):
        assert torch.equal(end[name], original[plain.replace(".base_layer", "")])
    assert tiny.weights_sha256() == sha  # the hash is of the original, whatever is on it
    remove_adapter(tiny)
    assert weights(tiny).keys() == original.keys() and changed(original, weights(tiny)) == set()
    assert tiny.weights_sha256() == sha


def test_the_projectors_copy_is_trained_in_float32_and_settles(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 steps of 2e-5 round to nothing, and many of them would add up to nothing; what they have added up to
    is rounded once, as loading and merging would."""
    vlm = load(str(tiny_folder), dtype=torch.bfloat16)
    ended: Weights = {}

    def settle(vlm: VisionLanguageModel) -> None:
        ended.update(weights(vlm))
        settle_copies(vlm)

    monkeypatch.setattr("unsee.training.settle_copies", settle)
    forget(vlm, tmp_path, "authors-script", steps=2)
    copies = [n for n in ended if "modules_to_save.default" in n and n.endswith("weight")]
    for name in copies:
        original = vlm.model.get_parameter(name.replace("modules_to_save.default", "original_module"))
        assert ended[name].dtype == torch.float32 and not torch.equal(ended[name], original.float())
    trained = {n: p for n, p in vlm.model.named_parameters() if p.requires_grad}
    assert copies and all(torch.equal(trained[n], ended[n].bfloat16()) for n in copies)
    assert {p.dtype for n, p in trained.items() if "lora_" in n} == {torch.float32}
    save_adapter(vlm, tmp_path / "adapter")
    again = load(str(tiny_folder), dtype=torch.bfloat16)
    load_adapter(again, tmp_path / "adapter")
    assert changed(weights(vlm), weights(again)) == set()
    rotary = {n.removeprefix("base_model.model."): b.clone() for n, b in vlm.model.named_buffers() if "inv_freq" in n}
    assert {p.dtype for p in merged(vlm).model.parameters()} == {torch.bfloat16}
    # In bfloat16 the frequencies of rotary positions would be off by up to 0.4 %, and no file would show it.
    buffers = dict(vlm.model.named_buffers())
    assert rotary and all(buffers[name].dtype == torch.float32 for name in rotary)
    assert all(torch.equal(buffers[name], value) for name, value in rotary.items())


def test_the_seed_decides(tiny_folder: Path, tmp_path: Path) -> None:
    ends = []
    for i, seed in enumerate((0, 0, 1)):
        vlm = load(str(tiny_folder), dtype=torch.float32)
        history = forget(vlm, tmp_path / str(i), seed=seed)
        ends.append((weights(vlm), [e["loss"] for e in history.steps]))
    (one, losses), (again, same), (other, others) = ends
    assert changed(one, again) == set() and losses == same
    assert changed(one, other) == {n for n in one if "lora_" in n} and losses != others


def test_the_seed_of_the_world_is_left_alone(tiny: VisionLanguageModel) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    add_lora(tiny, rank=4, alpha=8, seed=0)
    assert torch.equal(torch.rand(3), wanted)


def test_the_loss_falls_and_the_history_tells(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    history = forget(tiny, tmp_path, steps=12, learning_rate=2e-2, progress=lambda *a: told.append(a))
    losses = [e["loss"] for e in history.steps]
    assert losses[-1] < 0.7 * losses[0]
    assert told == [(i, 12) for i in range(1, 13)]
    assert [e["step"] for e in history.steps] == list(range(1, 13))
    for entry in history.steps:
        assert set(entry) == {"step", "loss", "terms", "seconds"} and set(entry["terms"]) == {"ce", "dmk"}
        assert sum(entry["terms"].values()) == pytest.approx(entry["loss"])
    assert 0 < sum(e["seconds"] for e in history.steps) <= history.seconds
    assert 0.05 < history.peak_memory_gib < 64
    assert not tiny.model.training


def test_nothing_is_printed(tiny: VisionLanguageModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    forget(tiny, tmp_path)
    assert capfd.readouterr().out == ""


# ---- going on


class Stop:
    """Ctrl-C after so many steps."""

    def __init__(self, after: int):
        self.after = after

    def __call__(self, done: int, total: int) -> None:
        if done == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("preset", "after"), [("default", 5), ("default", 1), ("authors-script", 4)])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    tiny_folder: Path, tmp_path: Path, preset: str, after: int
) -> None:
    changes: dict[str, Any] = {"steps": 7, "texts_per_step": 1, "protected_per_step": 1}
    whole = load(str(tiny_folder), dtype=torch.float32)
    wanted = forget(whole, tmp_path / "whole", preset, **changes)
    cut = load(str(tiny_folder), dtype=torch.float32)
    with pytest.raises(KeyboardInterrupt):
        forget(cut, tmp_path / "cut", preset, progress=Stop(after), save_steps=2, **changes)
    assert not cut.model.training
    told: list[int] = []
    again = load(str(tiny_folder), dtype=torch.float32)
    found = forget(again, tmp_path / "cut", preset, progress=lambda n, _: told.append(n), save_steps=2, **changes)
    # The checkpoint of a step is written after the progress of it is told.
    assert told[0] == (after - 1) // 2 * 2 + 1
    assert changed(weights(whole), weights(again)) == set()
    assert [(e["step"], e["loss"], e["terms"]) for e in found.steps] == [
        (e["step"], e["loss"], e["terms"]) for e in wanted.steps
    ]


def test_half_a_checkpoint_is_not_gone_on_from(tiny_folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 6}
    whole = load(str(tiny_folder), dtype=torch.float32)
    wanted = forget(whole, tmp_path / "whole", **changes)
    vlm = load(str(tiny_folder), dtype=torch.float32)
    with pytest.raises(KeyboardInterrupt):
        forget(vlm, tmp_path / "cut", progress=Stop(3), save_steps=2, **changes)
    (tmp_path / "cut" / "checkpoint-4").mkdir()
    (tmp_path / "cut" / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"half")
    (tmp_path / "cut" / "checkpoint-4" / "trainer_state.json").write_text('{"global_st')
    again = load(str(tiny_folder), dtype=torch.float32)
    found = forget(again, tmp_path / "cut", **changes)
    assert changed(weights(whole), weights(again)) == set() and len(found.steps) == len(wanted.steps)
    assert not (tmp_path / "cut" / "checkpoint-4").exists()


def test_a_checkpoint_that_does_not_fit_the_disk(tiny_folder: Path, tmp_path: Path) -> None:
    """torch's writer meets a real limit; its RuntimeError is told as what it is, and the rest goes on later."""
    vlm = load(str(tiny_folder), dtype=torch.float32)
    forget(vlm, tmp_path / "whole", steps=4)
    save_adapter(vlm, tmp_path / "adapter")
    room = int((tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size * 1.4)  # not for Adam's two moments
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    cut = load(str(tiny_folder), dtype=torch.float32)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            forget(cut, tmp_path / "cut", steps=4, save_steps=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.ENOSPC
    again = load(str(tiny_folder), dtype=torch.float32)
    forget(again, tmp_path / "cut", steps=4, save_steps=2)
    assert changed(weights(vlm), weights(again)) == set()


# ---- stopping


@pytest.mark.parametrize(
    ("begun", "value", "gone"),
    [(277.3, 0.0, False), (277.3, 330.0, True), (3.0, -46.0, False), (-3.0, -60.0, True), (3.0, 54.0, True)],
)
def test_a_term_may_fall_to_nothing_but_not_leave(begun: float, value: float, gone: bool) -> None:
    """NPO with a beta of 0.005 begins at 277."""
    assert exploded(begun, value) is gone


@pytest.mark.parametrize("value", [math.nan, math.inf, 2 * EXPLODED])
def test_a_loss_that_explodes_stops_at_its_step(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    done: list[int] = []
    honest = SIU.loss

    def loss(self: SIU, *args: Any) -> dict[str, torch.Tensor]:
        found = honest(self, *args)
        return {n: v * 0 + value for n, v in found.items()} if len(done) == 2 else found

    monkeypatch.setattr(SIU, "loss", loss)
    with pytest.raises(TrainingError, match=r"at step 3: the loss is .*smaller learning_rate") as caught:
        forget(tiny, tmp_path, steps=5, progress=lambda n, _: done.append(n))
    assert done == [1, 2] and caught.value.exit_code == 5
    assert all(torch.isfinite(p).all() for p in tiny.model.parameters())
    assert not tiny.model.training


def test_weights_that_the_last_step_spoils_are_no_result(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    honest = SIU.loss

    def loss(self: SIU, *args: Any) -> dict[str, torch.Tensor]:
        found = honest(self, *args)
        if len(done) == 2:  # the loss is finite, its gradient is not
            found["ce"] = found["ce"] + (found["ce"] * 0).sqrt()
        return found

    monkeypatch.setattr(SIU, "loss", loss)
    with pytest.raises(TrainingError, match=r"step 3 left a weight that is not finite"):
        forget(tiny, tmp_path, steps=3, progress=lambda n, _: done.append(n))


def test_a_loss_that_runs_away_is_caught(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="training stopped at step"):
        forget(tiny, tmp_path, steps=40, learning_rate=1.0, alpha=1000.0)


def test_no_samples_is_an_error(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method = make_method("siu")
    method.attach(tiny, 0)
    with pytest.raises(UnseeError, match="nothing to train on"):
        train(tiny, method, [], REQUEST, 0, tmp_path)


def test_the_learning_rate_falls_in_the_end(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    rates: list[float] = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        forget(tiny, tmp_path, steps=8, decay=0.5, learning_rate=1e-3)
    assert rates == pytest.approx([1e-3] * 5 + [7.5e-4, 5e-4, 2.5e-4])


# ---- adapters on disk


def test_a_saved_adapter_loads_again(tiny_folder: Path, tiny: VisionLanguageModel, tmp_path: Path) -> None:
    forget(tiny, tmp_path / "scratch", "authors-script", projector_learning_rate=1e-2)
    save_adapter(tiny, tmp_path / "adapter")
    names = {p.name for p in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names <= {
        "adapter_config.json", "adapter_model.safetensors", "README.md"}  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {"scratch", "adapter"}
    again = load(str(tiny_folder), dtype=torch.float32)
    load_adapter(again, tmp_path / "adapter")
    assert changed(weights(tiny), weights(again)) == set()
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["peft_type"] == "LORA"


def test_merging_gives_the_same_answers_without_an_adapter(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    forget(tiny, tmp_path, "authors-script", projector_learning_rate=1e-2)
    pack = EncodedPack(CIRCLE, (tiny.prompter.suffix("What is it?", "This is a circle."),))
    wanted = tiny.logits(collate([pack], tiny.prompter)).detach()
    with tiny.original():
        assert not close(tiny.logits(collate([pack], tiny.prompter)), wanted)
    whole = merged(tiny)
    assert not whole.adapted and not any("lora" in n or "modules_to_save" in n for n in weights(whole))
    assert close(whole.logits(collate([pack], whole.prompter)), wanted)


def test_adapters_that_are_none(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    with pytest.raises(UnseeError, match="no adapter in"):
        load_adapter(tiny, tmp_path)
    add_lora(tiny, rank=2, alpha=4, seed=0)
    save_adapter(tiny, tmp_path / "adapter")
    with pytest.raises(UnseeError, match="carries an adapter already"):
        load_adapter(tiny, tmp_path / "adapter")
    with pytest.raises(UnseeError, match="carries an adapter already"):
        add_lora(tiny, rank=2, alpha=4, seed=0)
    remove_adapter(tiny)
    torn = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()[:-200]
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(torn)
    with pytest.raises(UnseeError, match="cannot load the adapter"):
        load_adapter(tiny, tmp_path / "adapter")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_trains_on_a_gpu(tiny_folder: Path, tmp_path: Path) -> None:
    vlm = load(str(tiny_folder), device="cuda")
    before = weights(vlm)
    assert len(forget(vlm, tmp_path, steps=3).steps) == 3 and changed(before, weights(vlm))


def test_the_trainers_loss_lies_where_the_trainer_wants_it(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the Trainer stops at a loss on another device than its own, after all the asking was done."""
    found: list[torch.device] = []
    honest = UnlearningTrainer.training_step

    def step(self: UnlearningTrainer, *args: Any, **more: Any) -> torch.Tensor:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(type(self.args), "device", torch.device("meta"))
            found.append(honest(self, *args, **more).device)
        return torch.tensor(0.0)

    monkeypatch.setattr(UnlearningTrainer, "training_step", step)
    forget(tiny, tmp_path, steps=1)
    assert found == [torch.device("meta")]


def test_small_gradients_survive_float16(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pulled(dtype: torch.dtype, scale: float | None = None) -> torch.Tensor:
        if scale is not None:
            monkeypatch.setattr(Encoded, "loss_scale", scale)
        vlm = load(str(tiny_folder), dtype=dtype)
        method = make_method("siu", "paper", {"alpha": 1e-4, "beta": 0.0})
        method.attach(vlm, 0)
        encoded = Encoded(vlm, SAMPLES, method.reference)
        method.prepare(encoded, REQUEST)
        library.gradients(method, encoded, range(len(SAMPLES)))
        return torch.cat([p.grad.flatten() for p in vlm.model.parameters() if p.grad is not None])

    exact = pulled(torch.float32)
    scaled, plain = pulled(torch.float16), pulled(torch.float16, 1.0)
    far = [float((found - exact).norm() / exact.norm()) for found in (scaled, plain)]
    assert far[0] < 0.05 < far[1]


def test_masks_and_aims_survive_float16(tiny_folder: Path, tmp_path: Path) -> None:
    """What decides which weights move is made of gradients, too."""
    found = []
    for dtype in (torch.float32, torch.float16):
        vlm = load(str(tiny_folder), dtype=dtype)
        method = make_method("siu", "default", {"steps": 1, "learning_rate": 1e-9})
        method.attach(vlm, 0)
        train(vlm, method, SAMPLES, REQUEST, 0, tmp_path / str(dtype))
        a = torch.cat([p.detach().float().flatten() for n, p in vlm.model.named_parameters() if "lora_A" in n])
        assert a.isfinite().all()
        with torch.no_grad():  # at the start B is 0, and A has no gradient
            for n, p in vlm.model.named_parameters():
                if "lora_B" in n:
                    p.fill_(1e-6)
        squared, named = fisher(Encoded(vlm, SAMPLES), "forget"), dict(vlm.model.named_parameters())
        found.append(torch.cat([squared[p].float().sqrt().flatten() for n, p in named.items() if "lora_A" in n]))
    assert float((found[1] - found[0]).norm() / found[0].norm()) < 0.1
