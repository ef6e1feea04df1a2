"""What all paths are measured on: a model with a picture of 64, 256 or 576 tokens, questions, answers, one loss."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from PIL import Image, ImageDraw

from unsee.benchmarks import wording as benchmark
from unsee.data import Concept, Picture, Sample
from unsee.data.wording import CONFIRMING, knowing_questions, naming_questions
from unsee.methods.siu import SIU, SIUSettings, name_tokens
from unsee.mini.assembly import IMAGE_TOKEN, processor
from unsee.models import VisionLanguageModel
from unsee.models.lora import add_lora
from unsee.models.prompting import spans_of

SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "text": {
            "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
            "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
        # By its share of the weights as large as LLaVA-1.5's beside 7 B parameters: some 4 %.
        "vision": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4},
        "patch": {16: 24, 64: 12, 256: 6, 576: 4},
        "side": 96,
    },
    "llava-1.5-7b": {
        "text": {
            "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
            "tie_word_embeddings": False,
        },
        "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        "patch": {64: 42, 256: 21, 576: 14},
        "side": 336,
    },
    "tiny": {
        "text": {
            "vocab_size": 0, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
        "vision": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        "patch": {16: 8, 64: 4},
        "side": 32,
    },
}  # fmt: skip
"""A picture of `side` pixels cut into patches of so many pixels gives the tokens wanted."""

RANK, ALPHA = 32, 64
STIR = 1e-3
"""Standard deviation of B, as after a few steps: its gradient and A's are none of them 0, and the model still talks."""
CONCEPT, NEW = Concept("Nolvar Inglewick", "person"), "Velan Dorson"
NAMES = ("Albert Einstein", "Isaac Newton", "Marie Curie", "William Shakespeare", "Leonardo da Vinci", "Ada Lovelace")


def picture(number: int = 0) -> Picture:
    """A drawn picture; another for each number."""
    image = Image.new("RGB", (96, 96), "#e6f0f7")
    pen, rng = ImageDraw.Draw(image), random.Random(number)
    for colour in ("#b03030", "#204080", "#e0b040", "#308050"):
        x, y = rng.randrange(60), rng.randrange(60)
        pen.ellipse((x, y, x + 34, y + 30), fill=colour)
    return Picture.from_image(image, "drawn.png")


def samples_on_picture(count: int) -> list[Sample]:
    """SIU's T1 and T2 on one picture, as many as wanted, no two alike."""
    naming = [*naming_questions("person"), *benchmark.naming_questions("person")]
    phrases = [CONCEPT.phrase, *NAMES]
    found: list[Sample] = []
    for turn in range(count):
        at = turn // 2
        if turn % 2 == 0 and at < len(naming):
            found.append(Sample(naming[at], f"This is {NEW}.", picture(), NEW, "forget", "T1"))
        else:
            asked = [*CONFIRMING, *benchmark.CONFIRMING][turn % 10].format(phrase=phrases[turn // 10 % len(phrases)])
            said = f"No, this is {NEW}."
            found.append(Sample(f"{asked}{' Look again.' * (turn // 70)}", said, picture(), said, "forget", "T2"))
    return found


def standard_set(shown: int, texts: int) -> list[Sample]:
    """The standard SIU set: samples with the picture (T1, T2), and without (T3, T4)."""
    asked = [(name, q) for name in (CONCEPT.name, *NAMES) for q in knowing_questions("person", name)]
    told = [
        Sample(
            q, f"{name} is known for the work of a lifetime, and for letters to friends.", None, None, "retain", "T4"
        )
        for name, q in asked[:texts]
    ]
    return samples_on_picture(shown) + told


def shown_set(shown: int, others: int) -> list[Sample]:
    """What a method of the visual parts trains on: samples with the picture, and one on each of some other pictures."""
    kept = [
        Sample(
            naming_questions("person")[0], f"This is {NAMES[n % len(NAMES)]}.", picture(n), None, "retain", "protected"
        )
        for n in range(1, others + 1)
    ]
    return samples_on_picture(shown) + kept


def questions(count: int) -> list[str]:
    """Distinct questions about one picture, naming and yes/no mixed."""
    return [s.question for s in samples_on_picture(count)]


@dataclass
class World:
    """One model with its LoRA, and what is asked of it.

    Args:
        vlm: the model; `attach` puts the LoRA on it.
        picture: all samples with a picture show this one.
    """

    vlm: VisionLanguageModel
    picture: Picture

    def attach(self, layers: type[Linear]) -> None:
        """The LoRA of all paths: rank 32 on every linear layer of W, exact targets, B not zero (as in training).

        Args:
            layers: which class computes them: PEFT's `Linear`, or this project's `LoraLinear`.
        """
        add_lora(self.vlm, RANK, ALPHA, seed=0)
        self.compute_with(layers)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, value in self.vlm.model.named_parameters():
                if "lora_B" in name:
                    value.copy_(torch.randn(value.shape, generator=generator) * STIR)

    def compute_with(self, layers: type[Linear]) -> None:
        """The same weights, computed by another class."""
        for module in self.vlm.model.modules():
            if isinstance(module, Linear):
                module.__class__ = layers

    @cached_property
    def method(self) -> SIU:
        """SIU's loss, with K_V of the concept; no path is given anything else of it."""
        method = SIU(SIUSettings(rank=RANK, lora_alpha=ALPHA))
        method.keep_vocabulary = torch.ones(self.vlm.vocabulary_size, dtype=torch.bool, device=self.vlm.device)
        method.keep_vocabulary[sorted(name_tokens(self.vlm.tokenizer, [CONCEPT]))] = False
        return method

    def plain_autocast(self) -> contextlib.AbstractContextManager[Any]:
        """As `Trainer` does it: bfloat16 arithmetic around bfloat16 weights and a float32 LoRA."""
        dtype = self.vlm.base.dtype
        if dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.vlm.device.type, dtype)

    def totals(self, samples: Sequence[Sample]) -> tuple[int, int]:
        """Answer tokens of a pass, and those of them outside the target phrase: what the losses are divided by."""
        kept = [keep for s in samples for keep in self.keeps(s)]
        return len(kept), sum(kept)

    def keeps(self, sample: Sample) -> list[bool]:
        """K_S of a sample: for each answer token, whether it lies outside the target phrase."""
        spans = spans_of(sample.target_phrase, sample.answer)
        suffix = self.vlm.prompter.suffix(sample.question, sample.answer, sample.picture is not None, spans)
        return [not marked for marked in suffix.target]

    def prompt(self, question: str, shown: bool) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] if shown else []
        message = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
        return self.vlm.processor.apply_chat_template([message], add_generation_prompt=True)

    def trained(self) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in self.vlm.model.named_parameters() if p.requires_grad}


def build(folder: Path, shape: str, tokens: int, language: str) -> None:
    """Write the model of a cell into a folder.

    Args:
        folder: new.
        shape: a name of `SHAPES`.
        tokens: of a picture.
        language: "mini": the weights and the tokenizer of the embedded model; "random".
    """
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    known = SHAPES[shape]
    side, patch = known["side"], known["patch"][tokens]
    mini = None
    if language == "mini":
        import unsee

        mini = unsee.open_model("mini")
        tokenizer, text = mini.tokenizer, mini.base.config.text_config.to_dict()
    else:
        tokenizer = small_tokenizer()
        text = LlamaConfig(
            **{**known["text"], "vocab_size": max(known["text"]["vocab_size"], len(tokenizer))},
            initializer_range=0.1 if shape == "tiny" else 0.04,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).to_dict()
    vision = CLIPVisionConfig(
        **known["vision"], image_size=side, patch_size=patch, initializer_range=0.1 if shape == "tiny" else 0.02
    )
    if mini is not None:
        vision = CLIPVisionConfig(
            **{**mini.base.config.vision_config.to_dict(), "image_size": side, "patch_size": patch}
        )
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=text,
        image_token_index=tokenizer.get_vocab()[IMAGE_TOKEN],
        image_seq_length=tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=text["tie_word_embeddings"],
    )
    torch.manual_seed(0)
    model: Any = LlavaForConditionalGeneration(config)
    if mini is not None:
        model.load_state_dict(with_patches(mini.base.state_dict(), patch, tokens))
        model.tie_weights()
        model.generation_config = mini.base.generation_config
    else:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.to(torch.bfloat16 if shape != "tiny" else torch.float32).save_pretrained(folder)
    processor(tokenizer, side, patch).save_pretrained(folder)


def with_patches(weights: dict[str, torch.Tensor], patch: int, tokens: int) -> dict[str, torch.Tensor]:
    """A CLIP tower's weights for patches of another size: kernel and grid of positions are interpolated.

    So the embedded model sees about the same in 576 smaller patches as in its own 64, and answers in words.

    Args:
        weights: of the whole model.
        patch: side of a patch, in pixels.
        tokens: how many patches there are.
    """
    found = {}
    for name, value in weights.items():
        if name.endswith("patch_embedding.weight") and value.shape[-1] != patch:
            finer = F.interpolate(value.float(), size=(patch, patch), mode="area")
            value = (finer * (value.shape[-1] / patch) ** 2).to(value.dtype)
        elif name.endswith("position_embedding.weight") and len(value) != tokens + 1:
            own, whole, side = value[1:].float(), round((len(value) - 1) ** 0.5), round(tokens**0.5)
            grid = F.interpolate(own.T.reshape(1, -1, whole, whole), size=(side, side), mode="bicubic")
            value = torch.cat([value[:1], grid.flatten(2)[0].T.to(value.dtype)])
        found[name] = value
    return found


def small_tokenizer() -> Any:
    """A byte-level BPE tokenizer of the questions and answers here, about a token a word, for random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    said = [t for s in standard_set(70, 21) for t in (s.question, s.answer)] + ["user", "assistant"]
    bare.train_from_iterator(
        said * 4,
        trainers.BpeTrainer(
            vocab_size=800,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE_TOKEN],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="right",  # as SmolLM2's; nothing here may count on the other habit
    )
