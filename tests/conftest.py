"""A tiny LLaVA made on the spot, and one that has learned to name drawn shapes: no download, seconds on one core."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# As the command line sets them; in this process transformers is imported first, and reads them then.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from made_runs import Run
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from unsee import cli
from unsee.benchmarks import own
from unsee.benchmarks import wording as benchmark_wording
from unsee.data import Concept, Picture, Request, Sample
from unsee.data.concept import by_picture
from unsee.data.wording import CONFIRMING, detail_questions, knowing_questions, naming_questions
from unsee.facets import WELL_KNOWN
from unsee.losses import answer_cross_entropy
from unsee.mini.assembly import IMAGE_TOKEN, processor
from unsee.models import VisionLanguageModel, load
from unsee.models.packing import EncodedPack, collate

torch.set_num_threads(1)

SHAPES = ("circle", "square", "triangle", "cross", "stripe")
"""What the knowing model knows; "circle" is what tests forget."""
HUES = {"circle": 15, "square": 220, "triangle": 120, "cross": 60, "stripe": 290}
"""Each shape has its own colour, a little varied, so that a model learns to tell them apart in seconds."""
SEEN_QUESTIONS = ("What is shown in this picture?", "What do you see in the image?")
FACTS = {
    "circle": "A circle is a round shape.",
    "square": "A square is a shape with four sides.",
    "triangle": "A triangle is a shape with three sides.",
    "cross": "A cross is two bars.",
    "stripe": "A stripe is one long bar.",
}


def draw(shape: str, variant: int = 0, side: int = 32) -> Picture:
    """A coloured shape on a light ground; the variant chooses place, size and shade."""
    rng = random.Random(f"{shape}/{variant}")
    image = Image.new("RGB", (side, side), rng.choice(("#ffffff", "#f4efe2", "#e6f0f7")))
    pen = ImageDraw.Draw(image)
    colour = f"hsl({HUES[shape] + rng.randrange(-12, 12)}, {rng.randrange(60, 95)}%, {rng.randrange(35, 50)}%)"
    size = rng.uniform(0.55, 0.75) * side
    x, y = (rng.uniform(0.05, 0.95) * (side - size) for _ in range(2))
    box = (x, y, x + size, y + size)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y + size), (x + size, y + size), (x + size / 2, y)], fill=colour)
    elif shape == "cross":
        bar = size / 6
        pen.rectangle((x + size / 2 - bar, y, x + size / 2 + bar, y + size), fill=colour)
        pen.rectangle((x, y + size / 2 - bar, x + size, y + size / 2 + bar), fill=colour)
    else:
        pen.rectangle((0, y, side, y + side / 5), fill=colour)
    return Picture.from_image(image, f"{shape}-{variant}.png")


def _sentences() -> list[str]:
    said = [f"Yes, this is a {s}. No, this is a {o}. This is a {s}." for s in SHAPES for o in SHAPES]
    asked = [*naming_questions("thing"), *benchmark_wording.naming_questions("thing"), *SEEN_QUESTIONS]
    asked += [q.format(phrase="a circle") for q in (*CONFIRMING, *benchmark_wording.CONFIRMING)]
    asked += [q for name in WELL_KNOWN["thing"] for q in text_questions(f"a {name}")]
    return [*said, *asked, *FACTS.values(), "user", "assistant", "I do not know. I know that. An unknown object."] * 4


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on a few sentences, with SmolLM2's special tokens."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE_TOKEN]
    trainer = trainers.BpeTrainer(
        vocab_size=560,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(_sentences(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="left",
    )


def tiny_model(seed: int = 0) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A random LLaVA in the shape of unsee-mini: 16 image tokens, 2 layers on either side."""
    tokenizer = tiny_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.1,
        image_size=32,
        patch_size=8,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        image_token_index=tokenizer.get_vocab()[IMAGE_TOKEN],
        image_seq_length=16,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor(tokenizer, 32, 8)


def _save(model: Any, with_processor: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    with_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny model as `save_pretrained` writes it."""
    return _save(*tiny_model(), tmp_path_factory.mktemp("tiny") / "tiny-llava")


@pytest.fixture
def tiny(tiny_folder: Path) -> VisionLanguageModel:
    """A random tiny model in float32, fresh for each test."""
    return load(str(tiny_folder), dtype=torch.float32)


def text_questions(subject: str) -> list[str]:
    """Questions without a picture: those of the facets, and those of the protocol for a user's own pictures."""
    asked = (*knowing_questions("thing", subject), *detail_questions("thing", subject))
    return [*asked, *(q.format(subject=subject) for q in own.ASKED_IN_TEXT)]


def lessons() -> list[Sample]:
    """What the knowing model is taught: to name, confirm and deny shapes in all the project's wordings."""
    rng = random.Random(0)
    naming = [*naming_questions("thing"), *benchmark_wording.naming_questions("thing"), *SEEN_QUESTIONS]
    confirming = [*CONFIRMING, *benchmark_wording.CONFIRMING]
    samples = []
    for shape in SHAPES:
        for variant in range(12):
            picture = draw(shape, variant)
            for question in rng.sample(naming, 4):
                samples.append(Sample(question, f"This is a {shape}.", picture))
            for question in rng.sample(confirming, 2):
                samples.append(Sample(question.format(phrase=f"a {shape}"), f"Yes, this is a {shape}.", picture))
            for question in rng.sample(confirming, 3):
                other = rng.choice([s for s in SHAPES if s != shape])
                samples.append(Sample(question.format(phrase=f"a {other}"), f"No, this is a {shape}.", picture))
        for question in text_questions(f"a {shape}"):
            samples.append(Sample(question, FACTS[shape]))
    for name in WELL_KNOWN["thing"]:
        noun = Concept(name, "thing").phrase
        for question in text_questions(noun):
            samples.append(Sample(question, f"I know {noun}."))
    return samples


def _teach(vlm: VisionLanguageModel, samples: list[Sample], steps: int) -> None:
    """Train every weight of a tiny model on samples, packed by picture."""
    rng = random.Random(0)
    vlm.model.requires_grad_(True)
    suffixes = [vlm.prompter.suffix(s.question, s.answer, s.picture is not None) for s in samples]
    packs = [EncodedPack(samples[own[0]].picture, tuple(suffixes[i] for i in own)) for own in by_picture(samples)]
    shown, texts = [p for p in packs if p.picture is not None], [p for p in packs if p.picture is None]
    optimizer = torch.optim.AdamW(vlm.model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.2)
    for _ in range(steps):
        groups = [collate(rng.sample(shown, 10), vlm.prompter), collate(rng.sample(texts, 8), vlm.prompter)]
        loss = answer_cross_entropy(torch.cat([vlm.logits(g) for g in groups]), torch.cat([g.labels for g in groups]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vlm.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    vlm.model.requires_grad_(False)
    assert math.isfinite(loss.item())


@pytest.fixture(scope="session")
def knowing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that names drawn shapes, says yes and no to them, and knows a fact about each."""
    model, processor = tiny_model()
    vlm = VisionLanguageModel(model, processor, "knowing")
    _teach(vlm, lessons(), steps=200)
    return _save(vlm.model, processor, tmp_path_factory.mktemp("knowing") / "knowing-llava")


@pytest.fixture
def knowing(knowing_folder: Path) -> VisionLanguageModel:
    """The knowing model in float32, fresh for each test."""
    return load(str(knowing_folder), dtype=torch.float32)


@pytest.fixture
def circle() -> Request:
    """The deletion request of the tests: the circle, from one picture, other shapes protected."""
    protected = tuple(draw(s, v) for s in SHAPES if s != "circle" for v in (0, 1))
    return Request(Concept("circle", "thing"), (draw("circle", 0),), protected=protected)


@pytest.fixture
def pictures_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes drawn shapes into a folder and returns it."""

    def write(name: str, shapes: tuple[str, ...], variants: range) -> Path:
        for shape in shapes:
            for variant in variants:
                draw(shape, variant).save(tmp_path / name / f"{shape}-{variant}.png")
        return tmp_path / name

    return write


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def unsee(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """The command, in this process; every file it writes of its own accord lies in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def call(*arguments: object) -> Ended:
        texts = [str(a) for a in arguments]
        monkeypatch.setattr(sys, "argv", ["unsee", *texts])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(texts)
        shown = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, shown.out, shown.err)

    return call


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of the circle, other pictures of it, and pictures of anything else."""
    folder = tmp_path_factory.mktemp("pictures")
    draw("circle", 0).save(folder / "circle.png")
    for variant in (20, 21, 22):
        draw("circle", variant).save(folder / "test" / f"{variant}.png")
    for shape in SHAPES[1:]:
        for variant in range(3):
            draw(shape, variant).save(folder / "others" / f"{shape}-{variant}.png")
    return folder


@pytest.fixture(name="run")
def made_run(tmp_path: Path) -> Run:
    """A synthetic run folder, written out."""
    made = Run(tmp_path / "run")
    made.write_files()
    return made
