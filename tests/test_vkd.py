"""VKD, reconstructed: W never moves, forwards stop where a term ends, masks are applied."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FACTS, draw
from plain import plain_logits

from unsee.data import Concept, Request, Sample
from unsee.errors import UnseeError
from unsee.methods import make_method
from unsee.methods.encoded import Encoded
from unsee.methods.saliency import fisher, forget_mask
from unsee.methods.vkd import VKD
from unsee.models import VisionLanguageModel
from unsee.models.lora import merged, remove_adapter
from unsee.models.moved import moved
from unsee.models.neurons import mlp_ends, most_specific, recording, without
from unsee.training import History, train

CIRCLE, SQUARE, CROSS = draw("circle"), draw("square"), draw("cross")
CIRCLE_AGAIN = draw("circle", 1)
REQUEST = Request(Concept("circle", "thing"), (CIRCLE,))
BUILT = [
    Sample("What object is in the image?", "This is a blob.", CIRCLE, "a blob", "forget", "T1", "This is a circle."),
    Sample("What is a circle?", FACTS["circle"], None, None, "retain", "T3"),
    Sample("What object is in the image?", "This is a square.", SQUARE, None, "retain", "protected"),
    Sample("What object is in the image?", "This is a cross.", CROSS, None, "retain", "protected"),
]


def made(vlm: VisionLanguageModel, **changes: Any) -> tuple[VKD, Encoded]:
    """VKD attached and prepared."""
    method = make_method("vkd", "default", changes)
    assert isinstance(method, VKD)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    encoded = Encoded(vlm, samples, method.reference)
    method.prepare(encoded, REQUEST)
    return method, encoded


def run(vlm: VisionLanguageModel, scratch: Path, **changes: Any) -> History:
    method = make_method("vkd", "default", {"steps": 3, "learning_rate": 1e-3, **changes})
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    return train(vlm, method, samples, REQUEST, 0, scratch)


def test_answers_without_a_picture_are_equal_bit_by_bit(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    def asked(picture: Any) -> torch.Tensor:
        with torch.no_grad():
            return plain_logits(tiny, picture, "What is a circle?", FACTS["circle"])

    text, shown = asked(None), asked(CIRCLE)
    run(tiny, tmp_path, projector=True)
    assert torch.equal(asked(None), text) and not torch.equal(asked(CIRCLE), shown)
    with tiny.original():
        assert torch.equal(asked(CIRCLE), shown)
    changed = asked(CIRCLE)
    merged(tiny)
    assert not tiny.adapted and torch.equal(asked(None), text) and torch.equal(asked(CIRCLE), changed)


def test_taken_off_it_is_the_original(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    before = tiny.weights_sha256()
    run(tiny, tmp_path)
    assert tiny.weights_sha256() == before
    remove_adapter(tiny)
    assert tiny.weights_sha256() == before and not tiny.adapted


@pytest.mark.parametrize("depth", [0, 1])
def test_distillation_never_runs_the_language_model(tiny: VisionLanguageModel, depth: int) -> None:
    method, _ = made(tiny, depth=depth, upper_layers=1.0)
    ran: list[str] = []
    language = tiny.part(tiny.anatomy.language)
    projector = tiny.part(tiny.anatomy.projector)
    hooks = [
        language.register_forward_hook(lambda *_: ran.append("W")),
        projector.register_forward_hook(lambda *_: ran.append("P")),
        tiny.vision_layers[-1].register_forward_hook(lambda *_: ran.append("V's last")),
    ]
    loss = torch.stack(list(method.step_terms(tiny, 0).values())).sum()
    for hook in hooks:
        hook.remove()
    assert set(ran) == (set() if depth else {"P", "V's last"})
    loss.backward()
    moved = {n for n, p in tiny.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved and all(".vision_tower.modules_to_save." in n for n in moved)


def shaken(vlm: VisionLanguageModel) -> None:
    """As after some training: at the start all distances to the original are 0."""
    with torch.no_grad():
        for value in vlm.part(vlm.anatomy.vision).parameters():
            if value.requires_grad:
                value.add_(0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))


@pytest.mark.parametrize("moved", [True, False])
def test_what_is_distilled_is_drawn_by_the_seed_and_the_step(tiny: VisionLanguageModel, moved: bool) -> None:
    """Not by how often it was asked before: a run that goes on after an interruption draws the same."""
    method, _ = made(tiny, distilled_per_step=1, taught_per_step=2, moved=moved)
    shaken(tiny)
    with torch.no_grad():
        drawn = [method.step_terms(tiny, step) for step in range(8)]
        assert [method.step_terms(tiny, step) for step in range(8)] == drawn
    assert len({float(d["distil"]) for d in drawn}) == (8 if moved else 2)  # one of two pictures
    assert len({float(d["teach"]) for d in drawn}) == (8 if moved else 1)


def test_the_original_sees_the_same_moved_pixels(tiny: VisionLanguageModel) -> None:
    """Before anything is trained nothing is far; against the pictures as they were, everything would be."""
    method, _ = made(tiny)
    assert method.step_terms(tiny, 0)["distil"].item() == 0


def test_pictures_asked_about_are_placed_anew_at_each_step(tiny: VisionLanguageModel) -> None:
    method, _ = made(tiny)

    def seen(step: int) -> torch.Tensor:
        with torch.no_grad(), method.reading(tiny, step):
            return tiny.image_features([CIRCLE])

    plain = tiny.image_features([CIRCLE]).detach()
    assert torch.equal(seen(0), seen(0)) and not torch.equal(seen(0), seen(1)) and not torch.equal(seen(0), plain)
    assert torch.equal(tiny.image_features([CIRCLE]), plain)
    remove_adapter(
        tiny
    )  # where features are kept, those of a picture placed anew are neither kept nor taken from there
    kept = tiny.image_features([CIRCLE])
    assert torch.equal(seen(0), seen(0)) and not torch.equal(seen(0), kept)
    assert torch.equal(tiny.image_features([CIRCLE]), kept)
    remove_adapter(tiny)
    still, _ = made(tiny, moved=False)
    with torch.no_grad(), still.reading(tiny, 0):
        assert torch.equal(tiny.image_features([CIRCLE]), plain)


def test_pictures_are_placed_and_lit_anew() -> None:
    plain = torch.tensor([0.5, -0.5, 1.0])[None, :, None, None].expand(8, 3, 24, 24)  # looks the same wherever it is
    lit = moved(plain, random.Random(0))
    assert float(lit.flatten(2).std(2).max()) < 1e-6 and len({tuple(p[:, 0, 0].tolist()) for p in lit}) == 8
    assert 0.05 < float((lit - plain).abs().max()) <= 0.3 + 0.2 * 1.0 + 1e-6
    spot = torch.zeros(8, 3, 96, 96, dtype=torch.bfloat16)
    spot[..., 40:56, 40:56] = 8  # so bright that no light changes where it is
    found = moved(spot, random.Random(0))
    assert found.dtype == spot.dtype and torch.equal(found, moved(spot, random.Random(0)))
    assert len({tuple(p.flatten().tolist()) for p in found}) == 8
    sizes = []
    for picture in (found[:, 0].float() > 4).float():
        sizes.append(float(picture.sum()) / 256)
        rows, columns = picture.nonzero(as_tuple=True)
        middle = [float(at.float().mean()) for at in (rows, columns)]
        assert all(abs(m - 47.5) < 96 * 0.2 * 2 * 2**0.5 + 1 for m in middle)
    assert 1 / 4.5 < min(sizes) < 0.6 and 1.7 < max(sizes) < 4.5


def test_half_of_the_pictures_are_mirrored() -> None:
    halves = torch.zeros(64, 3, 24, 24)
    halves[..., 12:] = 4
    found = moved(halves, random.Random(0))[:, 0]
    # However little is turned and shifted, one side stays the brighter one.
    mirrored = sum(float(p[:, :4].mean() - p[:, -4:].mean()) > 0 for p in found)
    assert 16 < mirrored < 48


def test_the_language_model_runs_where_a_term_needs_it(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    ran: list[int] = []
    language = tiny.part(tiny.anatomy.language)
    hook = language.register_forward_pre_hook(
        lambda module, args, kwargs: ran.append(kwargs["inputs_embeds"].shape[0]), with_kwargs=True
    )
    pictures = {}
    told: dict[str, dict[str, Any]] = {"none": {"forget_loss": "none"}, "npo": {}, "both": {"retain_weight": 1.0}}
    for name, changes in told.items():
        terms = run(tiny, tmp_path / name, **changes, steps=1, forget_from=0.0).steps[0]["terms"]
        assert {"distil", "teach"} < terms.keys() if ran else {"distil", "teach"} == terms.keys()
        pictures[name] = sum(ran)
        ran.clear()
        remove_adapter(tiny)
    hook.remove()
    # Once for the record, once in the step: the picture to be forgotten; then two that are retained as well.
    assert pictures == {"none": 0, "npo": 2, "both": 6}


def test_the_forget_term_begins_when_it_is_told(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    ran: list[int] = []
    with_term = []
    hook = tiny.part(tiny.anatomy.language).register_forward_pre_hook(lambda *_: ran.append(1))
    for step in run(tiny, tmp_path, steps=5, forget_from=0.6).steps:
        with_term.append("forget" in step["terms"])
    hook.remove()
    assert with_term == [False, False, False, True, True] and len(ran) == 1 + 2  # the record, and those steps


@pytest.mark.parametrize("overshoot", [0.0, 0.25])
def test_the_nearest_teacher_is_a_protected_picture(tiny: VisionLanguageModel, overshoot: float) -> None:
    """A variation of the picture itself is nearer than any."""
    samples = [replace(BUILT[2], picture=CIRCLE_AGAIN, facet="variation"), *BUILT]
    method = make_method("vkd", "default", {"overshoot": overshoot})
    assert isinstance(method, VKD)
    method.attach(tiny, 0)
    method.prepare(Encoded(tiny, method.samples(samples)), REQUEST)
    with torch.no_grad():
        circle, again, square, cross = tiny.see(tiny.pixels([CIRCLE, CIRCLE_AGAIN, SQUARE, CROSS])).projected.float()
    assert (circle - again).norm() < min((circle - other).norm() for other in (square, cross))
    wanted = min((square, cross), key=lambda other: float((circle - other).norm()))
    assert torch.allclose(method._taught[CIRCLE], wanted + overshoot * (wanted - circle), atol=1e-5)


def test_the_mean_teacher_has_no_variation_of_the_picture_in_it(tiny: VisionLanguageModel) -> None:
    samples = [replace(BUILT[2], picture=CIRCLE_AGAIN, facet="variation"), *BUILT]
    method = make_method("vkd", "default", {"forget_teacher": "mean", "overshoot": 0.0})
    assert isinstance(method, VKD)
    method.attach(tiny, 0)
    method.prepare(Encoded(tiny, method.samples(samples)), REQUEST)
    with torch.no_grad():
        square, cross = tiny.see(tiny.pixels([SQUARE, CROSS])).projected.float()
    assert torch.allclose(method._taught[CIRCLE], (square + cross) / 2, atol=1e-5)


def test_the_pruned_teacher_sees_the_same_moved_pixels(tiny: VisionLanguageModel) -> None:
    """A teacher that lacks next to nothing teaches nothing, wherever the picture is placed."""
    method, _ = made(tiny, forget_teacher="pruned", pruned_share=1e-6, overshoot=0.0)
    one, mean = method.step_terms(tiny, 0)["teach"], made_anew(tiny, forget_teacher="mean")
    assert one.item() < 0.01 * mean.step_terms(tiny, 0)["teach"].item()
    many = made_anew(tiny, forget_teacher="pruned", pruned_share=0.3)
    assert many.step_terms(tiny, 0)["teach"].item() > 10 * one.item()


def made_anew(vlm: VisionLanguageModel, **changes: Any) -> VKD:
    remove_adapter(vlm)
    return made(vlm, **changes)[0]


def test_what_is_said_to_stay_of_the_picture_does_not_hold_its_look(tiny: VisionLanguageModel) -> None:
    """A user's file may ask of the picture itself what stays true."""
    colour = Sample("What colour is the background?", "It is white.", CIRCLE, None, "retain", "T4")
    method = make_method("vkd", "default", {"overshoot": 0.0})
    assert isinstance(method, VKD)
    method.attach(tiny, 0)
    method.prepare(Encoded(tiny, method.samples([colour, *BUILT])), REQUEST)
    assert CIRCLE not in method._retain
    method.prepare(Encoded(tiny, method.samples(BUILT)), REQUEST)
    assert method.step_terms(tiny, 0)["teach"].item() > 0
    with pytest.raises(UnseeError, match="needs pictures to be kept, and all there are are to be forgotten"):
        method.prepare(Encoded(tiny, method.samples([colour, BUILT[0]])), REQUEST)


def test_the_teacher_needs_no_answer_of_the_originals() -> None:
    untold = [replace(s, truth=None) for s in BUILT]
    alone = make_method("vkd", "default", {"forget_loss": "none"})
    assert CIRCLE in [s.picture for s in alone.samples(untold) if s.role == "forget"]
    with pytest.raises(UnseeError, match="suppresses what the original model says"):
        make_method("vkd").samples(untold)


def test_the_rate_rises_and_falls() -> None:
    settings = make_method("vkd", "default", {"steps": 10, "warmup": 4, "decay": 0.5}).settings
    assert [settings.share_of_rate(s) for s in range(10)] == [0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]


def test_until_a_layer_equals_the_whole_up_to_there(tiny: VisionLanguageModel) -> None:
    pixels = tiny.pixels([CIRCLE, SQUARE])
    seen = tiny.see(pixels)
    for layer in range(1, len(tiny.vision_layers) + 1):
        assert torch.equal(tiny.see_until(pixels, layer), seen.layers[layer])


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_the_distance_is_what_it_says(tiny: VisionLanguageModel, distance: str) -> None:
    weights = {"distil_weight": 2.0, "teach_weight": 3.0, "overshoot": 0.5}
    method, _ = made(tiny, distance=distance, forget_teacher="mean", moved=False, **weights)
    with torch.no_grad():
        original = {p.sha256: tiny.see(tiny.pixels([p])).projected[0].double() for p in (CIRCLE, SQUARE, CROSS)}
        shaken(tiny)
        now = {p.sha256: tiny.see(tiny.pixels([p])).projected[0].double() for p in (CIRCLE, SQUARE, CROSS)}
        held = [original[p.sha256] for p in (SQUARE, CROSS)]
        mean, scale = (held[0] + held[1]) / 2, (held[0].square().mean() + held[1].square().mean()) / 2

        def far(found: torch.Tensor, wanted: torch.Tensor) -> float:
            if distance == "mse":
                return float((found - wanted).square().mean() / scale)
            cosines = (found * wanted).sum(-1) / found.norm(dim=-1) / wanted.norm(dim=-1)
            return float(1 - cosines.mean())

        kept = sum(far(now[p.sha256], original[p.sha256]) for p in (SQUARE, CROSS)) / 2
        found = {name: float(term) for name, term in method.step_terms(tiny, 0).items()}
        beyond = mean + 0.5 * (mean - original[CIRCLE.sha256])
        wanted = {"distil": 2.0 * kept, "teach": 3.0 * far(now[CIRCLE.sha256], beyond)}
        assert found == pytest.approx(wanted, rel=1e-4)


# ---- masks


def test_fisher_is_the_mean_squared_gradient(tiny: VisionLanguageModel) -> None:
    _, encoded = made(tiny)
    found = fisher(encoded, "retain")
    wanted = {p: torch.zeros_like(p) for p in found}
    for sample in encoded.samples:
        if sample.role == "retain":
            ids = [*tiny.tokenizer(sample.answer)["input_ids"], tiny.prompter.end_id]
            logits = plain_logits(tiny, sample.picture, sample.question, sample.answer).log_softmax(-1)
            tiny.model.zero_grad()
            (-logits[range(len(ids)), ids].mean()).backward()
            for p in wanted:
                wanted[p] += 0 if p.grad is None else p.grad.square() / 2
    assert len(found) > 10
    for p, value in wanted.items():
        assert torch.allclose(found[p], value, rtol=1e-3, atol=1e-9)


def test_the_mask_is_applied_to_the_forget_term_alone(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method, encoded = made(tiny, mask_threshold=1.0)
    chosen = forget_mask(fisher(encoded, "forget"), fisher(encoded, "retain"), 1.0)
    names = {p: n for n, p in tiny.model.named_parameters()}
    masks = {names[p]: m.bool() for p, m in chosen.items()}
    share = sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
    assert 0 < share < 1 and method.gradient_mask.keys() == chosen.keys()
    before = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
    remove_adapter(tiny)

    def changed(**weights: float) -> dict[str, torch.Tensor]:
        run(tiny, tmp_path, mask_threshold=1.0, forget_from=0.0, steps=1, **weights)
        after = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
        remove_adapter(tiny)
        return {n: after[n] != before[n] for n in masks}

    for weights in ({"teach_weight": 0.0}, {"forget_weight": 0.0}):
        forgetting = changed(distil_weight=0.0, **weights)
        assert any(m.any() for m in forgetting.values())
        assert not any((m & ~masks[n]).any() for n, m in forgetting.items())
    retaining = changed(forget_weight=1e-9, teach_weight=0.0, distil_weight=0.0, retain_weight=1.0)
    assert any((m & ~masks[n]).any() for n, m in retaining.items())


def test_a_mask_of_nothing_or_everything_is_an_error() -> None:
    p = torch.nn.Parameter(torch.zeros(4))
    forget, retain = {p: torch.tensor([1.0, 2, 3, 4])}, {p: torch.tensor([4.0, 3, 2, 1])}
    assert forget_mask(forget, retain, 1.0)[p].tolist() == [0, 0, 1, 1]
    with pytest.raises(UnseeError, match="selects nothing at all at mask_threshold = 1000"):
        forget_mask(forget, retain, 1000.0)
    with pytest.raises(UnseeError, match="selects everything at neurons = 1e-06"):
        forget_mask(forget, retain, 1e-6, "neurons")


def test_what_forgets_reaches_chosen_neurons_alone(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method, _ = made(tiny, neuron_threshold=1.1, upper_layers=1.0)
    with torch.no_grad():
        heard = []
        for pictures in ([CIRCLE], [SQUARE, CROSS]):
            with recording(mlp_ends(tiny, tiny.anatomy.vision)) as activations:
                tiny.see(tiny.pixels(pictures))
            heard.append(activations)
    forget, retain = ({n: a / torch.cat(list(side.values())).mean() for n, a in side.items()} for side in heard)
    names = {p: n for n, p in tiny.model.named_parameters()}
    masks = {names[p]: mask for p, mask in method.gradient_mask.items()}
    assert masks.keys() == {n for n, p in tiny.model.named_parameters() if p.requires_grad}
    chosen = 0
    for path in forget:
        own, block = forget[path] >= 1.1 * (retain[path] + 1e-8), path[: path.rfind(".mlp.") + 4]
        inside = {n: m for n, m in masks.items() if f"{block}." in f"{n}."}
        assert len(inside) == 4  # two layers, weights and biases
        for name, mask in inside.items():
            wide = own[:, None] if mask.ndim == 2 else own
            wanted = own[None] if name.endswith("fc2.weight") else wide if "fc1" in name else torch.zeros(())
            assert torch.equal(mask, wanted.bool().expand_as(mask)), name
        chosen += int(own.sum())
    assert 0 < chosen < sum(len(a) for a in forget.values())
    assert not any(m.any() for n, m in masks.items() if ".mlp." not in n)
    both, encoded = made(remove(tiny), neuron_threshold=1.1, mask_threshold=1.0, upper_layers=1.0)
    fishers = fisher(encoded, "forget"), fisher(encoded, "retain")
    again = {n: p for n, p in tiny.model.named_parameters()}
    for p, mask in forget_mask(*fishers, 1.0).items():
        name = next(n for n, q in again.items() if q is p)
        assert torch.equal(both.gradient_mask[p], mask & masks[name])
    before = {n: p.detach().clone() for n, p in again.items()}
    remove_adapter(tiny)
    run(tiny, tmp_path, neuron_threshold=1.1, upper_layers=1.0, distil_weight=0.0, steps=1)
    changed = {n: p != before[n] for n, p in tiny.model.named_parameters() if n in masks}
    assert any(c.any() for c in changed.values())
    assert not any((c & ~masks[n]).any() for n, c in changed.items())
    with pytest.raises(UnseeError, match="selects nothing at all at neuron_threshold = 1e"):
        made(remove(tiny), neuron_threshold=1e6)


def remove(vlm: VisionLanguageModel) -> VisionLanguageModel:
    remove_adapter(vlm)
    return vlm


def test_neurons_are_heard_ranked_and_silenced(tiny: VisionLanguageModel) -> None:
    ends = mlp_ends(tiny, tiny.anatomy.vision)
    assert len(ends) == len(tiny.vision_layers)
    with torch.no_grad():
        with recording(ends) as circle:
            tiny.see(tiny.pixels([CIRCLE]))
        with recording(ends) as others:
            tiny.see(tiny.pixels([SQUARE, CROSS]))
        chosen = most_specific(circle, others, 0.1)
        every = sum(m.numel() for m in chosen.values())
        assert sum(int(m.sum()) for m in chosen.values()) == pytest.approx(0.1 * every, abs=1)
        low = max(float((circle[n] / (others[n] + 1e-6))[~m].max()) for n, m in chosen.items() if (~m).any())
        assert all(float((circle[n] / (others[n] + 1e-6))[m].min()) >= low for n, m in chosen.items() if m.any())
        with without(ends, chosen), recording(ends) as after:
            tiny.see(tiny.pixels([CIRCLE]))
    # The hook that listens comes after the one that silences.
    assert all(float(after[n][m].abs().sum()) == 0 for n, m in chosen.items())
    assert any(float(after[n][~m].abs().sum()) > 0 for n, m in chosen.items())


# ---- settings


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"forget_loss": "gd"}, "forget_loss = 'gd': it must be one of none, npo, ga"),
        ({"forget_teacher": 3}, "forget_teacher = 3: it must be one of nearest, pruned, mean, none"),
        ({"forget_loss": "none", "forget_teacher": "none"}, "nothing forgets: there is neither a teacher"),
        ({"forget_loss": "none", "teach_weight": 0.0}, "nothing forgets: there is neither a teacher"),
        ({"pruned_share": 1.0}, "pruned_share = 1.0 is out of range"),
    ],
)
def test_bad_settings_are_told_at_once(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UnseeError, match=complaint):
        make_method("vkd", "default", changes)


@pytest.mark.parametrize(("depth", "complaint"), [(9, "the vision tower has"), (1, "upper_layers = 0.5: .* layer 2$")])
def test_a_depth_that_does_not_fit_is_told(tiny: VisionLanguageModel, depth: int, complaint: str) -> None:
    with pytest.raises(UnseeError, match=f"depth = {depth}.*{complaint}"):
        made(tiny, depth=depth, upper_layers=0.5)


def test_a_layer_that_the_projector_does_not_read_is_not_trained(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As LLaVA-1.5 has it: nothing would come of training the last."""
    monkeypatch.setattr(tiny.base.config, "vision_feature_layer", -2)
    assert tiny.vision_depth == 1
    with torch.no_grad():
        before = tiny.see(tiny.pixels([CIRCLE])).projected
    run(tiny, tmp_path, upper_layers=0.01)
    with torch.no_grad():
        assert not torch.equal(before, tiny.see(tiny.pixels([CIRCLE])).projected)
    remove_adapter(tiny)
    with pytest.raises(UnseeError, match="depth = 2: the vision tower has 1 layers that are read"):
        made(tiny, depth=2)


@pytest.mark.parametrize(("share", "whole"), [(0.01, False), (0.5, False), (1.0, True)])
def test_the_upper_layers_alone_are_trained(
    tiny: VisionLanguageModel, tmp_path: Path, share: float, whole: bool
) -> None:
    with torch.no_grad():
        before = tiny.see(tiny.pixels([CIRCLE]))
    run(tiny, tmp_path, upper_layers=share)
    trains = {n for n, p in tiny.model.named_parameters() if p.requires_grad}
    assert trains and all((".layers.1." in n) or whole for n in trains)
    assert any("embeddings" in n for n in trains) == whole
    with torch.no_grad():
        after = tiny.see(tiny.pixels([CIRCLE]))
        assert torch.equal(before.layers[1], after.layers[1]) != whole  # behind V's first layer
        assert not torch.equal(before.projected, after.projected)
        with tiny.original():
            assert torch.equal(before.projected, tiny.see(tiny.pixels([CIRCLE])).projected)


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("teacher", ["nearest", "pruned", "mean", "none"])
@pytest.mark.parametrize("forget_loss", ["npo", "ga"])
def test_every_choice_runs(
    tiny: VisionLanguageModel, tmp_path: Path, teacher: str, forget_loss: str, moved: bool
) -> None:
    steps = run(tiny, tmp_path, forget_teacher=teacher, forget_loss=forget_loss, moved=moved, steps=2).steps
    assert steps[1]["terms"].keys() == {"distil", "forget", *(["teach"] if teacher != "none" else [])}
