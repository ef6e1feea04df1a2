"""SIU: its masks, its loss on a real model, and what it moves."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from conftest import draw, tiny_tokenizer
from plain import close, loosen, plain_logits
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from unsee.data import Concept, Request, Sample
from unsee.errors import UnseeError
from unsee.methods import REGISTRY, make_method
from unsee.methods.encoded import Encoded
from unsee.methods.siu import SIU, SIUSettings, name_tokens
from unsee.models import VisionLanguageModel

PICTURE, OTHER = draw("circle"), draw("square")
SAMPLES = [
    Sample("What object is in the image?", "This is a blob.", PICTURE, "a blob", "forget", "T1"),
    Sample("Is it a circle?", "No, this is a blob.", PICTURE, "No, this is a blob.", "forget", "T2"),
    Sample("What is a circle?", "A circle is round.", None, None, "retain", "T3"),
    Sample("What is a cross?", "It is two bars.", None, None, "retain", "T4"),
    Sample("What object is in the image?", "This is a square.", OTHER, None, "retain", "protected"),
]


def request(*aliases: str) -> Request:
    return Request(Concept("circle", "thing", aliases), (PICTURE,))


def prepared(vlm: VisionLanguageModel, **changes: object) -> SIU:
    method = make_method("siu", "default", dict(changes))
    assert isinstance(method, SIU)
    method.prepare(Encoded(vlm, SAMPLES), request())
    return method


# ---- K_V: the tokens of the name


def spelled(concept: Concept) -> set[str]:
    tokenizer = tiny_tokenizer()
    pieces = tokenizer.convert_ids_to_tokens(sorted(name_tokens(tokenizer, [concept])))
    return {piece.replace("Ġ", " ") for piece in pieces}


def test_the_name_is_masked_with_and_without_the_leading_space() -> None:
    assert " circle" in spelled(Concept("circle"))
    tokenizer = tiny_tokenizer()
    bare = tokenizer("circle", add_special_tokens=False)["input_ids"]  # several pieces: no sentence begins with it
    pieces = {piece for piece in (str(tokenizer.decode([i])) for i in bare) if len(piece.strip()) >= 2}
    assert pieces and pieces <= spelled(Concept("circle"))


@pytest.mark.parametrize("name", ["yes", "This", "NO"])
def test_all_casings_are_masked(name: str) -> None:
    tokenizer = tiny_tokenizer()
    masked = name_tokens(tokenizer, [Concept(name)])
    for form in (name.lower(), name.title(), name.upper()):
        for text in (form, " " + form):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) == 1:
                assert ids[0] in masked, text


def test_generic_words_and_single_letters_are_not_masked() -> None:
    flag = spelled(Concept("the flag of circle", "flag"))
    assert flag == spelled(Concept("circle", "flag"))
    assert not any(t.strip() in ("flag", "of", "the", "a") for t in flag)
    alias = spelled(Concept("circle", "flag", ("the circle flag", "the square logo", "Statue of the square")))
    assert not {t.strip().lower() for t in alias} & {"of", "the", "a"} and any("square" in t for t in alias)
    # A name spelled in single letters would mask the alphabet, and with it everything the model says.
    assert all(len(t.strip()) >= 2 for t in spelled(Concept("Qxzvw")))


def test_a_tokenizer_that_begins_every_text_with_a_space_masks_both_forms() -> None:
    """As Llama's does."""
    pieces = ["▁circle", "circle", "▁(", "(", "▁", "<unk>"]
    unigram = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=5))
    unigram.pre_tokenizer, unigram.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>")
    masked = set(fast.convert_ids_to_tokens(sorted(name_tokens(fast, [Concept("circle")]))))
    assert masked - {"<unk>"} == {"▁circle", "circle"}


def test_aliases_and_several_concepts_are_masked_together() -> None:
    tokenizer = tiny_tokenizer()
    both = name_tokens(tokenizer, [Concept("circle"), Concept("square")])
    assert both == name_tokens(tokenizer, [Concept("circle", "thing", ("square",))])
    assert both == name_tokens(tokenizer, [Concept("circle")]) | name_tokens(tokenizer, [Concept("square")])


# ---- the loss on a model


def plain_loss(vlm: VisionLanguageModel, method: SIU) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha CE and beta DMK, by separate forwards, loops, and masks set by hand: METHODS.md word for word."""
    masked = name_tokens(vlm.tokenizer, [request().concept])
    ce, dmk = torch.zeros(()), torch.zeros(())
    tokens = kept = 0
    for sample in SAMPLES:
        logits = plain_logits(vlm, sample.picture, sample.question, sample.answer)
        with torch.no_grad(), vlm.original():
            original = plain_logits(vlm, sample.picture, sample.question, sample.answer).log_softmax(-1)
        found = logits.log_softmax(-1)
        ids = [*vlm.tokenizer(sample.answer, add_special_tokens=False)["input_ids"], vlm.prompter.end_id]
        text = ""
        for t, token in enumerate(ids):
            ce = ce - found[t, token]
            tokens += 1
            begin, text = len(text), text + vlm.tokenizer.decode([token])
            phrase = sample.target_phrase or "\n"
            low = sample.answer.find(phrase)
            in_phrase = low >= 0 and begin < low + len(phrase) and len(text) > low
            if in_phrase or phrase == sample.answer:
                continue
            kept += 1
            for v in range(found.shape[1]):
                if v not in masked:
                    dmk = dmk + original[t, v].exp() * (original[t, v] - found[t, v])
    return method.settings.alpha * ce / tokens, method.settings.beta * dmk / kept


def packed_loss(
    vlm: VisionLanguageModel, method: SIU, encoded: Encoded, chosen: list[list[int]]
) -> dict[str, torch.Tensor]:
    """The trainer's way, the step's samples cut into the given micro-steps."""
    totals = encoded.totals([i for part in chosen for i in part])
    terms: dict[str, torch.Tensor] = {"ce": torch.zeros(()), "dmk": torch.zeros(())}
    for part in chosen:
        for batch, _ in encoded.micro_batches(part):
            logits = vlm.logits(batch.tensors, batch.entering, encoded.layer)
            for name, value in method.loss(logits, encoded.compared(batch), totals).items():
                terms[name] = terms[name] + value
    return terms


def gradients(vlm: VisionLanguageModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    vlm.model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in vlm.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("first_layer", [0, 1])
def test_the_loss_and_its_gradients_equal_the_plain_computation(tiny: VisionLanguageModel, first_layer: int) -> None:
    """With the layers below `first_layer` computed once and kept, or all of them at every step."""
    method = prepared(tiny)
    loosen(tiny, first_layer)
    ce, dmk = plain_loss(tiny, method)
    wanted = gradients(tiny, ce + dmk)
    encoded = Encoded(tiny, SAMPLES, reference="vocabulary")
    assert encoded.layer == first_layer and bool(encoded.entering) == (first_layer > 0)
    found = packed_loss(tiny, method, encoded, [list(range(len(SAMPLES)))])
    assert found["ce"].item() == pytest.approx(ce.item(), rel=1e-4)
    assert found["dmk"].item() == pytest.approx(dmk.item(), rel=1e-4)
    assert abs(dmk.item()) > 0.01 and ce.item() > 1
    got = gradients(tiny, found["ce"] + found["dmk"])
    assert got.keys() == wanted.keys() and any("lora_A" in n for n in got)
    for name, value in wanted.items():
        assert close(got[name], value), name


@pytest.mark.parametrize(
    "chosen", [[[0, 1, 2, 3, 4]], [[0], [1], [2], [3], [4]], [[4, 0], [3, 1, 2]], [[2, 3], [0, 1, 4]]]
)
def test_packed_batched_and_accumulated_agree(tiny: VisionLanguageModel, chosen: list[list[int]]) -> None:
    method = prepared(tiny)
    loosen(tiny)
    encoded = Encoded(tiny, SAMPLES, reference="vocabulary")
    whole = packed_loss(tiny, method, encoded, [list(range(len(SAMPLES)))])
    parts = packed_loss(tiny, method, encoded, chosen)
    for name in whole:
        assert parts[name].item() == pytest.approx(whole[name].item(), rel=1e-4)
    wanted, got = gradients(tiny, sum(whole.values())), gradients(tiny, sum(parts.values()))  # type: ignore[arg-type]
    assert all(close(got[n], v) for n, v in wanted.items())


def test_the_reference_is_the_original_whatever_is_on_the_model(tiny: VisionLanguageModel) -> None:
    before = Encoded(tiny, SAMPLES, reference="vocabulary").reference
    loosen(tiny)
    after = Encoded(tiny, SAMPLES, reference="vocabulary").reference
    assert all(torch.equal(before[i], after[i]) for i in range(len(SAMPLES)))
    assert [len(before[i]) for i in range(len(SAMPLES))] == [
        len(tiny.prompter.suffix("", s.answer).answer_ids) for s in SAMPLES
    ]
    assert Encoded(tiny, SAMPLES).reference == {}


def test_only_what_training_sees_is_recorded(tiny: VisionLanguageModel) -> None:
    loosen(tiny, first_layer=1)
    some = Encoded(tiny, SAMPLES, reference="vocabulary", seen=[3, 0, 3])
    whole = Encoded(tiny, SAMPLES, reference="vocabulary")
    assert some.reference.keys() == {0, 3} and whole.reference.keys() == set(range(len(SAMPLES)))
    assert some.layer == 1 and some.entering.keys() < whole.entering.keys()
    (seen, _), (unseen, _) = next(some.micro_batches([0])), next(some.micro_batches([1]))
    assert seen.reference is not None and seen.entering is not None
    assert unseen.reference is None and unseen.entering is None  # W is run from its first layer on
    assert close(tiny.logits(unseen.tensors, unseen.entering, some.layer), tiny.logits(unseen.tensors))


def test_k_s_lies_on_prediction_positions(tiny: VisionLanguageModel) -> None:
    """The masked positions are those that predict the phrase's tokens, one before them."""
    encoded = Encoded(tiny, SAMPLES[:1])
    batch, _ = next(encoded.micro_batches([0]))
    ids = batch.tensors.ids.flatten()
    predicted = [tiny.tokenizer.decode([int(ids[i + 1])]) for i in batch.tensors.predict[batch.tensors.target]]
    assert "".join(predicted) == " a blob"
    assert encoded.totals([0]).kept_tokens == len(batch.tensors.labels) - len(predicted)


def test_at_the_start_dmk_is_zero_but_for_the_masked_name(tiny: VisionLanguageModel) -> None:
    method = prepared(tiny)
    encoded = Encoded(tiny, SAMPLES, reference="vocabulary")
    terms = packed_loss(tiny, method, encoded, [list(range(len(SAMPLES)))])
    assert terms["dmk"].item() == pytest.approx(0, abs=1e-6)  # every unmasked entry is log(P/P)


def test_roles_say_what_is_forgotten(tiny: VisionLanguageModel) -> None:
    encoded = Encoded(tiny, SAMPLES)
    for batch, order in encoded.micro_batches(range(len(SAMPLES))):
        for role, number in zip(batch.roles.tolist(), batch.tensors.sample.tolist(), strict=True):
            assert role == (SAMPLES[order[number]].role == "forget")


# ---- settings


def test_presets_are_the_papers() -> None:
    assert list(SIU.presets) == ["default", "paper", "authors-script"]
    for preset in ("paper", "authors-script"):
        s = make_method("siu", preset).settings
        assert (s.alpha, s.beta, s.learning_rate, s.samples_per_step, s.steps) == (0.9, 0.75, 3e-4, 4, 6)
        assert not s.protected_pictures and s.upper_layers == 1 and s.decay == 0
    script = make_method("siu", "authors-script").settings
    assert (script.rank, script.lora_alpha, script.projector_learning_rate) == (128, 256, 2e-5)


def test_protected_pictures_are_used_where_the_settings_say_so() -> None:
    assert make_method("siu", "default").samples(SAMPLES) == SAMPLES
    assert make_method("siu", "paper").samples(SAMPLES) == SAMPLES[:4]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"steps": 0}, "steps = 0 is out of range"), ({"steps": 2.5}, "must be a whole number"),
        ({"steps": True}, "must be a whole number"), ({"learning_rate": 0}, "out of range"),
        ({"learning_rate": math.nan}, "must be a number"), ({"learning_rate": "fast"}, "must be a number"),
        ({"alpha": -1}, "neither may be negative"), ({"alpha": 0, "beta": 0}, "not both 0"), ({"rank": 0}, "rank = 0"),
        ({"lora_alpha": 0}, "lora_alpha"), ({"protected_pictures": 1}, "true or false"), ({"rank": None}, "a whole"),
        ({"projector_learning_rate": -1.0}, "projector_learning_rate"), ({"max_grad_norm": -1}, "max_grad_norm"),
        ({"stepps": 3}, "did you mean 'steps'"), ({"samples_per_step": -1}, "samples_per_step"),
    ],
)  # fmt: skip
def test_bad_settings_are_told_at_once(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(UnseeError, match=complaint):
        make_method("siu", "default", changes)


def test_unknown_methods_and_presets_are_told_at_once() -> None:
    with pytest.raises(UnseeError, match="no method 'sio'; did you mean 'siu'"):
        make_method("sio")
    with pytest.raises(UnseeError, match="no preset 'papper'.*presets: default, paper, authors-script"):
        make_method("siu", "papper")


@pytest.mark.parametrize("name", REGISTRY)
def test_every_method_says_what_it_is(name: str) -> None:
    method = make_method(name)
    assert method.name == name and method.paper and method.moves
    for preset in method.presets:
        assert dataclasses.is_dataclass(make_method(name, preset).settings)
    assert isinstance(make_method("siu").settings, SIUSettings)


def test_the_probability_that_the_mask_takes_out_is_noted(tiny: VisionLanguageModel) -> None:
    method = make_method("siu", "paper")
    method.attach(tiny, 0)
    method.prepare(Encoded(tiny, SAMPLES, method.reference), request())
    masked = sorted(name_tokens(tiny.tokenizer, [request().concept]))
    for sample in SAMPLES:
        with torch.no_grad():
            found = plain_logits(tiny, sample.picture, sample.question, sample.answer).softmax(-1)[:, masked].sum(-1)
        note = method.notes.get(f"masked by K_V in {sample.facet}")
        if sample.facet == "T2":
            assert note is None  # its whole answer is the target phrase, and none of it is in DMK
        elif sample.facet != "T1":
            assert note == pytest.approx(float(found.mean()), rel=1e-3)


def test_a_name_in_characters_is_masked() -> None:
    class Characters:
        """Bytes of a Chinese name as a byte-level tokenizer without its characters has them, or the characters."""

        def __init__(self, pieces: dict[int, str]):
            self.pieces = pieces

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": list(self.pieces)}

        def decode(self, ids: list[int]) -> str:
            return self.pieces[ids[0]]

    concept = Concept("習近平", "person")
    assert name_tokens(Characters({7: "習", 8: "近", 9: "平"}), [concept]) == {7, 8, 9}
    assert name_tokens(Characters({7: "\ufffd", 8: "\ufffd", 9: "a"}), [concept]) == set()
