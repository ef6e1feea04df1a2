"""Packing is a shortcut: it must give what the whole model gives through its own processor, one question at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.lora.layer import Linear
from plain import close, loosen, plain_logits

from unsee.data import Picture
from unsee.models import VisionLanguageModel, load, packing
from unsee.models.attention import _written_out
from unsee.models.lora_linear import LoraLinear
from unsee.models.packing import EncodedPack, batches, collate
from unsee.models.prompting import Prompter, Suffix, spans_of

Asked = tuple[Picture | None, list[tuple[str, str]]]

RED, BLUE, GREEN = draw("circle"), draw("square"), draw("triangle")
TALK = [
    ("What is it?", "This is a circle."),
    ("Is this a cross or a stripe, do you think?", "No."),
    ("Name it.", "A s"),
]
CASES: dict[str, list[Asked]] = {
    "one question": [(RED, TALK[:1])],
    "several on one picture": [(RED, TALK)],
    "several pictures, no padding": [(RED, TALK[:2]), (BLUE, TALK[:2])],
    "several pictures, padded": [(RED, TALK), (BLUE, TALK[1:2]), (GREEN, TALK[:1])],
    "text alone": [(None, TALK[:1])],
    "texts side by side": [(None, TALK), (None, TALK[2:])],
    "pictures and texts in one batch": [(None, TALK[:1]), (RED, TALK), (None, TALK[1:]), (BLUE, TALK[:1])],
    "the same picture in two packs": [(RED, TALK[:2]), (RED, TALK[2:])],
}


def pack(vlm: VisionLanguageModel, asked: Asked) -> EncodedPack:
    picture, talk = asked
    return EncodedPack(picture, tuple(vlm.prompter.suffix(q, a, picture is not None) for q, a in talk))


def plain(vlm: VisionLanguageModel, case: Sequence[Asked]) -> torch.Tensor:
    return torch.cat([plain_logits(vlm, picture, q, a) for picture, talk in case for q, a in talk])


@pytest.mark.parametrize("name", CASES)
def test_packed_logits_equal_separate_forwards(tiny: VisionLanguageModel, name: str) -> None:
    case = CASES[name]
    found = tiny.logits(collate([pack(tiny, asked) for asked in case], tiny.prompter))
    wanted = plain(tiny, case)
    assert found.shape == wanted.shape
    assert close(found, wanted)
    assert wanted.std() > 0.1  # a model that says the same of everything would prove nothing


@pytest.mark.parametrize("name", CASES)
def test_packed_gradients_equal_separate_forwards(tiny: VisionLanguageModel, name: str) -> None:
    case = CASES[name]
    loosen(tiny)
    trained = {n: p for n, p in tiny.model.named_parameters() if p.requires_grad}
    weights = torch.randn(plain(tiny, case).shape, generator=torch.Generator().manual_seed(1))

    def gradients(logits: torch.Tensor) -> dict[str, torch.Tensor]:
        tiny.model.zero_grad()
        (logits.log_softmax(-1) * weights).sum().backward()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in trained.items()}

    found = gradients(tiny.logits(collate([pack(tiny, asked) for asked in case], tiny.prompter)))
    wanted = gradients(plain(tiny, case))
    shown = any(picture is not None for picture, _ in case)
    for name_, value in wanted.items():
        assert close(found[name_], value), name_
        assert (value.abs().max() > 0) or ("projector" in name_ and not shown), name_


@pytest.mark.parametrize("width", [1, 24])
@pytest.mark.parametrize("name", CASES)
def test_slices_give_what_the_whole_mask_gives(
    tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch, name: str, width: int
) -> None:
    monkeypatch.setattr(packing, "SLICE", width)
    loosen(tiny)
    batch = collate([pack(tiny, asked) for asked in CASES[name]], tiny.prompter)
    assert sum(batch.slices.widths) == batch.ids.shape[1]
    found: list[list[torch.Tensor]] = []
    for sliced in (True, False):
        tiny.sliced = sliced
        tiny.model.zero_grad()
        logits = tiny.logits(batch)
        (logits.log_softmax(-1) * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
        trained = [p for p in tiny.model.parameters() if p.requires_grad]
        found.append([logits, *(torch.zeros_like(p) if p.grad is None else p.grad for p in trained)])
    assert len(found[0]) > 1 and all(close(a, b) for a, b in zip(*found, strict=True))


def test_slices_are_cut_between_suffixes(tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SLICE", 1)
    prefix = len(tiny.prompter.prefix)
    one = pack(tiny, (RED, TALK))
    assert collate([one], tiny.prompter).slices.widths == [prefix, *(len(s.ids) for s in one.suffixes)]
    # Rows whose suffixes end in different places are cut where none is cut in two; mixed with texts, not at all.
    both = collate([one, pack(tiny, (BLUE, TALK[1:]))], tiny.prompter).slices.widths
    assert both[0] == prefix and len(both) < 2 + len(TALK)
    assert len(collate([one, pack(tiny, (None, TALK))], tiny.prompter).slices.widths) == 1
    monkeypatch.setattr(packing, "SLICE", 10_000)
    assert len(collate([one], tiny.prompter).slices.widths) == 2


def test_a_layer_and_its_lora_together_are_what_peft_computes(tiny: VisionLanguageModel) -> None:
    """The same logits and the same gradients as from PEFT's own forward, in float32."""
    loosen(tiny)
    batch = collate([pack(tiny, (RED, TALK)), pack(tiny, (None, TALK))], tiny.prompter)
    layers: list[Any] = [m for m in tiny.model.modules() if isinstance(m, LoraLinear)]
    assert layers
    found = []
    for kind in (LoraLinear, Linear):
        for layer in layers:
            layer.__class__ = kind
        tiny.model.zero_grad()
        logits = tiny.logits(batch)
        (logits.log_softmax(-1) * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
        trained = [p for n, p in tiny.model.named_parameters() if "lora_" in n]
        found.append([logits, *(p.grad for p in trained if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > len(layers)
    assert all(close(a, b) for a, b in zip(*found, strict=True))


def test_an_adapter_that_is_not_plain_is_left_to_peft(tiny: VisionLanguageModel) -> None:
    loosen(tiny)
    batch = collate([pack(tiny, (RED, TALK))], tiny.prompter)
    plain = tiny.logits(batch)
    for layer in tiny.model.modules():
        if isinstance(layer, LoraLinear):
            layer.lora_dropout["default"] = torch.nn.Dropout(0.0)
    assert close(tiny.logits(batch), plain)  # with dropout, the way of PEFT
    with tiny.original():
        assert not close(tiny.logits(batch), plain)


def test_attention_written_out_equals_the_kernel() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64, requires_grad=True) for n in (4, 6, 6))
    bias = torch.zeros(2, 1, 4, 6, dtype=torch.float64).masked_fill(torch.ones(4, 6).tril(2) == 0, -torch.inf)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.3)
    found = _written_out(q, k, v, bias, 0.3)
    assert torch.allclose(found, wanted)
    for a, b in zip(
        torch.autograd.grad(found.sin().sum(), (q, k, v)),
        torch.autograd.grad(wanted.sin().sum(), (q, k, v)),
        strict=True,
    ):
        assert torch.allclose(a, b)


def test_a_suffix_does_not_see_the_others(tiny: VisionLanguageModel) -> None:
    ask = ("What is it?", "This is a circle.")
    alone = tiny.logits(collate([pack(tiny, (RED, [ask]))], tiny.prompter))
    for others in (TALK, TALK[::-1]):
        beside = tiny.logits(collate([pack(tiny, (RED, [*others, ask]))], tiny.prompter))
        assert close(beside[-len(alone) :], alone)


def test_another_picture_gives_other_logits(tiny: VisionLanguageModel) -> None:
    one, other = (tiny.logits(collate([pack(tiny, (p, TALK))], tiny.prompter)) for p in (RED, BLUE))
    assert not close(one, other)


def test_the_batch_says_which_sample_each_answer_token_belongs_to(tiny: VisionLanguageModel) -> None:
    case = CASES["pictures and texts in one batch"]
    batch = collate([pack(tiny, asked) for asked in case], tiny.prompter)
    said = [a for _, talk in case for _, a in talk]
    for number, answer in enumerate(said):
        ids = batch.labels[batch.sample == number].tolist()
        assert tiny.tokenizer.decode(ids) == answer + tiny.tokenizer.eos_token
    # A prediction position is one before its label.
    assert torch.equal(batch.ids.flatten()[batch.predict[1:]][batch.sample[1:] == batch.sample[:-1]],
                       batch.labels[:-1][batch.sample[1:] == batch.sample[:-1]])  # fmt: skip


def test_other_attention_is_replaced_where_it_cannot_read_the_mask(tiny: VisionLanguageModel) -> None:
    wanted = tiny.logits(collate([pack(tiny, (RED, TALK))], tiny.prompter))
    tiny.model.set_attn_implementation("eager")
    again = VisionLanguageModel(tiny.model, tiny.processor, "again")
    assert close(again.logits(collate([pack(again, (RED, TALK))], again.prompter)), wanted)


def test_low_precision_agrees_with_float32(tiny_folder: Path, tiny: VisionLanguageModel) -> None:
    half = load(str(tiny_folder), dtype=torch.bfloat16)
    found, wanted = (v.logits(collate([pack(v, (RED, TALK))], v.prompter)) for v in (half, tiny))
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(0, 64), st.integers(64, 2048))
def test_batches_hold_every_pack_once_and_keep_to_their_bounds(lengths: list[int], prefix: int, tokens: int) -> None:
    packs = [EncodedPack(RED, (Suffix((0,) * n, n),)) for n in lengths]
    groups = batches(packs, prefix, tokens=tokens, waste=0.15, spare=40)
    assert sorted(itertools.chain(*groups)) == list(range(len(packs)))
    for group in groups:
        sizes = [packs[i].length(prefix) for i in group]
        cells = max(sizes) * len(sizes)
        assert len(group) == 1 or (cells <= tokens and cells - sum(sizes) <= max(0.15 * cells, 40))


def marked(prompter: Prompter, answer: str, phrase: str) -> list[str]:
    suffix = prompter.suffix("Who?", answer, True, spans_of(phrase, answer))
    return [prompter.tokenizer.decode([i]) for i, t in zip(suffix.answer_ids, suffix.target, strict=True) if t]


def test_the_target_phrase_marks_its_own_tokens(tiny: VisionLanguageModel) -> None:
    prompter = tiny.prompter
    assert "".join(marked(prompter, "This is a circle.", "a circle")) == " a circle"
    # Ending the answer, it takes the end token along.
    assert "".join(marked(prompter, "This is a circle", "circle")) == " circle<|im_end|>"
    assert marked(prompter, "No.", "No.")[-1] == "<|im_end|>"
    # Named twice, it is marked twice.
    assert "".join(marked(prompter, "A circle is a circle.", "circle")) == " circle circle"


@pytest.mark.parametrize(("phrase", "text", "found"), [
    (None, "a circle", ()), ("circle", "a square", ()), ("aa", "aaaa", ((0, 2), (2, 4))), ("a", "ba", ((1, 2),)),
])  # fmt: skip
def test_spans(phrase: str | None, text: str, found: tuple[tuple[int, int], ...]) -> None:
    assert spans_of(phrase, text) == found


def test_the_begin_token_is_added_where_the_processor_adds_it(tiny: VisionLanguageModel) -> None:
    """LLaVA-1.5's template leaves it to the tokenizer, SmolLM2's writes a token of its own."""
    from tokenizers.processors import TemplateProcessing

    begin = "<|endoftext|>"
    backend = tiny.tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))]
    )
    tiny.tokenizer.bos_token = begin
    again = VisionLanguageModel(tiny.model, tiny.processor, "again")
    assert again.prompter.prefix[0] == backend.token_to_id(begin)
    for picture in (RED, None):
        found = again.logits(collate([pack(again, (picture, TALK))], again.prompter))
        assert close(found, plain(again, [(picture, TALK)]))
