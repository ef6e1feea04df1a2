"""Batched answers on a shared prefix: token for token what `generate` says, one question at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHAPES, draw
from plain import close, loosen, plain_logits
from safetensors.torch import load_file, save_file

from unsee.data import Picture
from unsee.errors import UnseeError
from unsee.models import Question, Reply, VisionLanguageModel, answer, answering, load
from unsee.models.answering import encode_prefix
from unsee.models.lora import add_lora, remove_adapter
from unsee.models.packing import EncodedPack
from unsee.models.prompting import Suffix

RED, BLUE = draw("circle", 3), draw("square", 4)
MIXED = [
    Question("What is shown in this picture?", RED),
    Question("Is it a circle?", RED),
    Question("Tell me, in as many words as you like, whether you would say that this is a square.", BLUE),
    Question("What is a circle?"),
    Question("Which object is this?", BLUE),
    Question("?"),
    Question("Is it a circle?", RED),  # the very same question again
    Question("Who is shown here, and does a triangle appear in the image too, or perhaps a cross?", RED),
]


def generated(vlm: VisionLanguageModel, question: Question, max_new_tokens: int) -> Reply:
    """The usual way."""
    content = [{"type": "image"}] if question.picture else []
    message = {"role": "user", "content": [*content, {"type": "text", "text": question.text}]}
    prompt = vlm.processor.apply_chat_template([message], add_generation_prompt=True)
    inputs = vlm.processor(text=prompt, images=question.picture and [question.picture.image], return_tensors="pt")
    out = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)[
        0, inputs["input_ids"].shape[1] :
    ]
    ended = int(out[-1]) in vlm.end_ids
    ids = out[:-1] if ended else out
    return Reply(vlm.tokenizer.decode(ids, skip_special_tokens=True).strip(), len(ids), ended)


@pytest.mark.parametrize("max_new_tokens", [1, 3, 24])
def test_answers_equal_greedy_generation(tiny: VisionLanguageModel, max_new_tokens: int) -> None:
    wanted = [generated(tiny, q, max_new_tokens) for q in MIXED]
    assert answer(tiny, MIXED, max_new_tokens) == wanted
    assert len({r.text for r in wanted}) > 3  # a model that says one thing only would prove nothing


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_batch_size_changes_nothing(tiny: VisionLanguageModel, batch_size: int) -> None:
    assert answer(tiny, MIXED, 12, batch_size=batch_size) == answer(tiny, MIXED, 12)


def test_few_prefixes_held_at_once_change_nothing(tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [*MIXED, Question("What is it?", draw("stripe")), Question("Is it a cross?", draw("cross"))]
    wanted = answer(tiny, questions, 12)
    monkeypatch.setattr(answering, "PREFIX_BYTES", 1)
    assert answer(tiny, questions, 12) == wanted


def test_a_prefix_is_encoded_once_however_many_questions(
    tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Picture] = []

    def counting(vlm: VisionLanguageModel, pictures: Sequence[Picture]) -> answering.Prefix:
        encoded.extend(pictures)
        return encode(vlm, pictures)

    encode = answering.encode_prefix
    monkeypatch.setattr(answering, "encode_prefix", counting)
    answer(tiny, MIXED, 4, batch_size=2)
    assert sorted(p.sha256 for p in encoded) == sorted([RED.sha256, BLUE.sha256])


def test_who_stays_when_answers_end() -> None:
    going = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.bool)
    keep, pictures = answering._leaving(going)
    # The second picture's answers have all ended; an ended one of the third keeps its row as long as the first.
    assert keep.tolist() == [0, 2, 6, 7] and pictures.tolist() == [0, 2]


def test_answers_that_end_by_themselves_at_different_times(knowing: VisionLanguageModel) -> None:
    questions = [Question("Which object is this?", draw(s, 1)) for s in SHAPES]
    questions += [Question("Is this a circle?", draw(s, 1)) for s in SHAPES] + [Question("What is a square?")]
    wanted = [generated(knowing, q, 24) for q in questions]
    assert answer(knowing, questions, 24) == wanted
    assert all(r.ended for r in wanted) and len({r.tokens for r in wanted}) > 2
    assert wanted[0] == Reply("This is a circle.", wanted[0].tokens, True)


def test_an_answer_is_cut_off_at_the_limit(knowing: VisionLanguageModel) -> None:
    whole = answer(knowing, [Question("Which object is this?", RED)], 24)[0]
    cut = answer(knowing, [Question("Which object is this?", RED)], whole.tokens)[0]
    assert (cut.text, cut.tokens, cut.ended) == (whole.text, whole.tokens, False)
    shorter = answer(knowing, [Question("Which object is this?", RED)], 2)[0]
    assert shorter.tokens == 2 and not shorter.ended and whole.text.startswith(shorter.text)


def test_every_end_token_of_the_generation_config_ends_an_answer(knowing: VisionLanguageModel) -> None:
    full_stop = knowing.tokenizer(".", add_special_tokens=False)["input_ids"][0]
    knowing.base.generation_config.eos_token_id = [knowing.prompter.end_id, full_stop]
    question = Question("Which object is this?", RED)
    found = answer(knowing, [question])[0]
    assert found == generated(knowing, question, 40)
    assert found.text == "This is a circle" and found.ended


def test_an_adapter_and_the_original_each_answer_for_themselves(tiny: VisionLanguageModel) -> None:
    before = answer(tiny, MIXED, 12)
    loosen(tiny)  # the projector's copy is still as it was
    with torch.no_grad():
        for name, value in tiny.model.named_parameters():
            if "projector" in name and value.requires_grad:
                value.mul_(-2.0)
    tiny.model.requires_grad_(False)  # as a loaded adapter is: image features are kept
    for _ in range(2):
        after = answer(tiny, MIXED, 12)
        assert after == [generated(tiny, q, 12) for q in MIXED] != before
        with tiny.original():
            assert answer(tiny, MIXED, 12) == before
        tiny.model.requires_grad_(False)
    remove_adapter(tiny)
    assert answer(tiny, MIXED, 12) == before


def test_each_picture_is_seen_once(tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Picture] = []
    features = tiny._features

    def counting(pictures: Sequence[Picture]) -> torch.Tensor:
        seen.extend(pictures)
        return features(pictures)

    monkeypatch.setattr(tiny, "_features", counting)
    answer(tiny, MIXED, 2)
    add_lora(tiny, rank=2, alpha=4, seed=0)  # of W alone: V and P are as they were
    for _ in range(3):
        answer(tiny, MIXED, 2, batch_size=2)
        with tiny.original():
            answer(tiny, MIXED, 2)
    assert sorted(p.sha256 for p in seen) == sorted([RED.sha256, BLUE.sha256])
    remove_adapter(tiny)
    answer(tiny, MIXED, 2)
    add_lora(tiny, rank=2, alpha=4, seed=0, projector=True)
    seen.clear()
    answer(tiny, MIXED, 2)
    assert {p.sha256 for p in seen} == {RED.sha256, BLUE.sha256}


def test_progress_counts_every_question(tiny: VisionLanguageModel) -> None:
    done: list[int] = []
    answer(tiny, MIXED, 2, batch_size=3, progress=done.append)
    assert sum(done) == len(MIXED) and len(done) == 4 and max(done) <= 3
    assert answer(tiny, []) == []


def test_score_equals_the_plain_log_softmax(tiny: VisionLanguageModel) -> None:
    asked = [(RED, [("What is it?", "This is a circle."), ("Is it a square?", "No.")]), (None, [("Who?", "I know.")])]
    asked += [(BLUE, [("What is it?", "A cross or two, and much more besides.")])]
    packs = [
        EncodedPack(picture, tuple(tiny.prompter.suffix(q, a, picture is not None) for q, a in talk))
        for picture, talk in asked
    ]
    scored = tiny.score(packs)
    for pack, found, (picture, talk) in zip(packs, scored, asked, strict=True):
        for suffix, values, (q, a) in zip(pack.suffixes, found, talk, strict=True):
            wanted = plain_logits(tiny, picture, q, a).log_softmax(-1)
            ids = torch.tensor(suffix.answer_ids)
            assert close(values, wanted[torch.arange(len(ids)), ids])
            assert bool((values < 0).all())


@pytest.mark.parametrize("batch_size", [2, 128])
def test_answers_scored_beside_a_reply_share_its_prefix(
    tiny: VisionLanguageModel, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is scored may be the reply itself; some questions want nothing scored, others two answers."""

    def wanted(n: int, reply: Reply) -> list[Suffix]:
        given = {0: [reply.text], 1: [], 3: ["A circle is round."], 4: ["This is a cross.", "No."]}.get(n, ["Yes."])
        return [tiny.prompter.suffix(MIXED[n].text, text, MIXED[n].picture is not None) for text in given]

    plain = answer(tiny, MIXED, 8, batch_size=batch_size)
    encoded: list[int] = []

    def counting(vlm: VisionLanguageModel, pictures: Sequence[Picture]) -> Any:
        encoded.append(len(pictures))
        return encode_prefix(vlm, pictures)

    monkeypatch.setattr(answering, "encode_prefix", counting)
    replies = answer(tiny, MIXED, 8, batch_size=batch_size, to_score=wanted)
    assert sum(encoded) == 2 and replies == plain
    for n, (question, reply) in enumerate(zip(MIXED, replies, strict=True)):
        assert list(reply.log_probs) == wanted(n, reply)
        for suffix, values in reply.log_probs.items():
            ((again,),) = tiny.score([EncodedPack(question.picture, (suffix,))])
            assert close(torch.tensor(values), again)


def test_a_score_does_not_depend_on_what_is_scored_beside_it(tiny: VisionLanguageModel) -> None:
    packs = [EncodedPack(draw(s), (tiny.prompter.suffix("What is it?", f"This is a {s}." * n),))
             for n, s in enumerate(SHAPES, 1)]  # fmt: skip
    together = [s[0] for s in tiny.score(packs)]
    for pack, value in zip(packs, together, strict=True):
        assert close(value, tiny.score([pack])[0][0])


def test_unknown_models_and_devices_are_one_line(tmp_path: Path, tiny_folder: Path) -> None:
    for name in ("no-such-model", "./nowhere", "~/nowhere", "a/b/c"):
        with pytest.raises(UnseeError, match="there is no model or run"):
            load(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnseeError, match="cannot load the model"):
        load(str(tmp_path / "empty"))
    with pytest.raises(UnseeError, match="cannot use the device"):
        load(str(tiny_folder), device="quantum")
    if not torch.cuda.is_available():
        with pytest.raises(UnseeError, match="cannot use the device"):
            load(str(tiny_folder), device="cuda")


def test_a_model_of_another_family_or_with_missing_weights_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    text = shutil.copytree(tiny_folder, tmp_path / "text")
    config = json.loads((text / "config.json").read_text())
    (text / "config.json").write_text(json.dumps({**config["text_config"], "model_type": "llama"}))
    with pytest.raises(UnseeError, match="type 'llama' are not supported"):
        load(str(text))
    poor = shutil.copytree(tiny_folder, tmp_path / "poor")
    weights = load_file(poor / "model.safetensors")
    lost = next(k for k in weights if "projector" in k)
    del weights[lost]
    save_file(weights, poor / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnseeError, match="lacks weights: .*projector"):
        load(str(poor))
    torn = shutil.copytree(tiny_folder, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:-1000])
    with pytest.raises(UnseeError, match="cannot load the model"):
        load(str(torn))


@pytest.mark.parametrize(
    ("template", "why"),
    [(None, "not have a chat template"), ("{{ messages[0]['content'][-1]['text'] }}", "template has no place for one")],
)
def test_a_model_that_cannot_be_asked_about_a_picture_is_refused(
    tmp_path: Path, tiny_folder: Path, template: str | None, why: str
) -> None:
    mute = shutil.copytree(tiny_folder, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    if template is not None:
        (mute / "chat_template.jinja").write_text(template)
    with pytest.raises(UnseeError, match=f"cannot be asked about a picture: .*{why}"):
        load(str(mute))


def test_a_model_whose_pictures_take_different_numbers_of_tokens_is_refused(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixtral's are one flat list of tokens, of all pictures together."""

    def flat(self: VisionLanguageModel, pictures: Sequence[Picture]) -> torch.Tensor:
        return torch.zeros(sum(p.width * p.height // 256 for p in pictures), 1, 8)

    monkeypatch.setattr(VisionLanguageModel, "_features", flat)
    with pytest.raises(UnseeError, match="depends on its shape in this model; it is not supported"):
        load(str(tiny_folder))


def test_what_is_held_of_a_token_is_counted_in_bytes(tiny: VisionLanguageModel) -> None:
    prefix = encode_prefix(tiny, [draw("circle")])
    held = sum(keys.nbytes + values.nbytes for keys, values in prefix)
    assert answering._bytes_a_token(tiny) * len(tiny.prompter.prefix) == held
