"""The usual way, which shortcuts must agree with: one question at a time through the whole model, no code of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from conftest import FACTS
from peft import PeftModel
from small_runs import PICTURE
from transformers import LlavaForConditionalGeneration

from unsee.data import Picture, Sample
from unsee.models import VisionLanguageModel, load
from unsee.models.lora import add_lora, load_adapter, save_adapter


def plain_forward(
    vlm: VisionLanguageModel, picture: Picture | None, question: str, answer: str, **more: Any
) -> tuple[Any, slice]:
    """The usual way: the processor's ids and pixels, the whole model, every position; and which predict the answer."""
    content = [{"type": "image"}] if picture else []
    message = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
    prompt = vlm.processor.apply_chat_template([message], add_generation_prompt=True)
    images = [picture.image] if picture else None
    asked = vlm.processor(text=prompt, images=images, return_tensors="pt")["input_ids"].shape[1]
    whole = vlm.processor(text=prompt + answer + vlm.tokenizer.eos_token, images=images, return_tensors="pt")
    return vlm.model(**whole, **more), slice(asked - 1, -1)


def plain_logits(vlm: VisionLanguageModel, picture: Picture | None, question: str, answer: str) -> torch.Tensor:
    found, predicting = plain_forward(vlm, picture, question, answer)
    return found.logits[0, predicting]


def plain_states(vlm: VisionLanguageModel, sample: Sample, layer: int) -> torch.Tensor:
    """`[tokens, hidden]` behind one of W's layers (1 is the first, and not the last)."""
    found, predicting = plain_forward(vlm, sample.picture, sample.question, sample.answer, output_hidden_states=True)
    return found.hidden_states[layer][0, predicting]


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-4 * wanted.abs().max())


def loosen(vlm: VisionLanguageModel, first_layer: int = 0) -> None:
    """A LoRA that does something (a fresh one is zero), and a projector that takes a gradient too, or upper layers."""
    add_lora(vlm, rank=4, alpha=8, seed=0, projector=first_layer == 0, first_layer=first_layer)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in vlm.model.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.2)


def said(vlm: VisionLanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([plain_logits(vlm, p, "What is a circle?", FACTS["circle"]) for p in (PICTURE, None)])


def reads_back(vlm: VisionLanguageModel, base: Path, folder: Path) -> None:
    """The adapter on a model, saved and loaded again, by us and by plain PEFT, gives the same logits."""
    wanted = said(vlm)
    save_adapter(vlm, folder)
    again = load(str(base), dtype=torch.float32)
    load_adapter(again, folder)
    assert torch.equal(said(again), wanted)
    again.model = PeftModel.from_pretrained(  # with no code of ours
        LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32), folder
    ).eval()
    again.forget_features()
    assert torch.equal(said(again), wanted)


PLAIN = """
import sys
from transformers import AutoModelForImageTextToText, AutoProcessor
from PIL import Image
folder, picture, question = sys.argv[1:4]
model = AutoModelForImageTextToText.from_pretrained(folder, dtype="bfloat16")
if len(sys.argv) > 4:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, sys.argv[4])
processor = AutoProcessor.from_pretrained(folder)
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
inputs = processor(
    images=Image.open(picture).convert("RGB"), text=processor.apply_chat_template(chat, add_generation_prompt=True),
    return_tensors="pt",
)
out = model.generate(**inputs.to(model.dtype), max_new_tokens=20, do_sample=False)
assert "unsee" not in sys.modules
print(processor.decode(out[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def plain_answer(folder: Path, picture: Path, question: str, adapter: Path | None = None) -> str:
    """What plain transformers (and peft) say in an interpreter without unsee."""
    extra = [str(adapter)] if adapter else []
    command = [sys.executable, "-c", PLAIN, str(folder), str(picture), question, *extra]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()
