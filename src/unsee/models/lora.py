"""LoRA on the language model by PEFT: exact targets, saved in PEFT's own format, merged for deployment."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from unsee.errors import UnseeError
from unsee.models.vlm import VisionLanguageModel


def add_lora(vlm: VisionLanguageModel, rank: int, alpha: int, seed: int, projector: bool = False) -> None:
    """Wrap the model with a fresh LoRA on every linear layer of W; nothing else takes a gradient.

    Args:
        vlm: changed in place.
        rank: of the update.
        alpha: its scale.
        seed: of the LoRA's start.
        projector: train a copy of the projector as well.
    """
    if isinstance(vlm.model, PeftModel):
        raise UnseeError("the model carries an adapter already; merge it first")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=vlm.anatomy.linear_targets(vlm.model),
        modules_to_save=[vlm.anatomy.projector.rpartition(".")[2]] if projector else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vlm.model = get_peft_model(vlm.model, config)
    vlm.forget_features()


def remove_lora(vlm: VisionLanguageModel) -> None:
    """Take the adapter off again: the original model, bit for bit."""
    if isinstance(vlm.model, PeftModel):
        vlm.model = vlm.model.unload()
        vlm.model.requires_grad_(False)
        vlm.forget_features()


def load_adapter(vlm: VisionLanguageModel, folder: Path) -> None:
    """Put a saved adapter on the model.

    Raises:
        UnseeError: there is none in the folder, or it belongs to another model.
    """
    try:
        vlm.model = PeftModel.from_pretrained(vlm.model, str(folder)).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise UnseeError(f"cannot load the adapter in {folder}: {str(error).splitlines()[0]}") from None
    vlm.forget_features()


def save_adapter(vlm: VisionLanguageModel, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`."""
    vlm.model.save_pretrained(str(folder))


def merged(vlm: VisionLanguageModel) -> VisionLanguageModel:
    """Fold the adapter into the weights: it can no longer be taken off. The model given is used up."""
    if isinstance(vlm.model, PeftModel):
        vlm.model = vlm.model.merge_and_unload()
        vlm.forget_features()
    return vlm
