"""Adapters by PEFT, a LoRA on the language model or trained copies of modules: made, saved, loaded, merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors import SafetensorError
from torch import nn

from unsee.errors import UnseeError, first_line
from unsee.files import whole
from unsee.models.lora_linear import LoraLinear
from unsee.models.vlm import VisionLanguageModel


def _fast(config: Any) -> Any:
    """The same adapter, its linear layers computed by `LoraLinear`; other kinds of adapters are left alone."""
    if isinstance(config, LoraConfig):
        config._register_custom_module({nn.Linear: LoraLinear})
    return config


def add_lora(
    vlm: VisionLanguageModel,
    rank: int,
    alpha: int,
    seed: int,
    projector: bool = False,
    first_layer: int = 0,
    end_layer: int | None = None,
) -> None:
    """Wrap the model with a fresh LoRA on the linear layers of W; nothing else takes a gradient.

    Args:
        vlm: changed in place.
        rank: of the update.
        alpha: its scale.
        seed: of the LoRA's start.
        projector: train a copy of the projector as well.
        first_layer: W's layers before this one carry no LoRA.
        end_layer: nor do those from this one on; None: it reaches to the last.
    """
    vlm.refuse_adapter()
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=vlm.anatomy.linear_targets(vlm.model, first_layer, end_layer),
        modules_to_save=[vlm.anatomy.projector.rpartition(".")[2]] if projector else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vlm.model = get_peft_model(vlm.model, _fast(config))
    for name, value in vlm.model.named_parameters():
        if value.requires_grad and "lora_" not in name:
            value.data = value.data.float()  # in bfloat16 the small steps of the projector would round to nothing
    if projector:  # V and P are as they were otherwise, and so are the features kept
        vlm.forget_features()


def add_copies(vlm: VisionLanguageModel, parts: Sequence[str]) -> None:
    """Wrap the model with trained copies of whole modules, in float32; nothing else takes a gradient.

    Args:
        vlm: changed in place. The modules themselves stay as they are, and are what the original sees through.
        parts: their paths.
    """
    vlm.refuse_adapter()
    vlm.model = get_peft_model(vlm.model, LoraConfig(target_modules=DUMMY_TARGET_MODULES, modules_to_save=list(parts)))
    for value in vlm.model.parameters():
        if value.requires_grad:
            value.data = value.data.float()
    vlm.forget_features()


def settle_copies(vlm: VisionLanguageModel) -> None:
    """Round trained copies to the model's own precision, in which loading and merging them would give them back."""
    for name, value in vlm.model.named_parameters():
        if ".modules_to_save." in name:
            value.data = value.data.to(vlm.base.dtype)


def add_columns(vlm: VisionLanguageModel, layers: Sequence[str], count: int) -> None:
    """Wrap the model so that some columns of linear layers can be trained, and nothing else.

    A LoRA whose A picks neurons, one a row, moves exactly their columns: `(W + B A)[:, picked] = W[:, picked] + B`.
    It is as small as what it moves, and an ordinary adapter. `pick_columns` says which; until then it does nothing.

    Args:
        vlm: changed in place.
        layers: paths of the linear layers.
        count: columns of each.
    """
    vlm.refuse_adapter()
    vlm.model = get_peft_model(vlm.model, _fast(LoraConfig(r=count, lora_alpha=count, target_modules=list(layers))))
    for name, value in vlm.model.named_parameters():
        if "lora_A." in name:
            value.data.zero_()
    freeze_picks(vlm)
    vlm.forget_features()


def pick_columns(vlm: VisionLanguageModel, layer: str, columns: torch.Tensor, cleared: bool) -> None:
    """Say which columns of a layer that `add_columns` wrapped are trained.

    Args:
        vlm: changed in place.
        layer: its path.
        columns: `[count]`, their numbers.
        cleared: begin with columns of zeros (up to rounding where they are used, exactly when merged), instead of the
            original's.
    """
    original = vlm.part(f"{layer}.base_layer").get_parameter("weight")
    picks, moves = (vlm.part(f"{layer}.lora_{side}.default").get_parameter("weight") for side in "AB")
    with torch.no_grad():
        picks.zero_()[torch.arange(len(columns)), columns] = 1
        moves.copy_(-original[:, columns] if cleared else torch.zeros_like(moves))
    vlm.forget_features()


def freeze_picks(vlm: VisionLanguageModel) -> None:
    """Which columns are trained stays as it is; PEFT lets all of an adapter train whenever it switches it on."""
    for name, value in vlm.model.named_parameters():
        if "lora_A." in name:
            value.requires_grad = False


def remove_adapter(vlm: VisionLanguageModel) -> None:
    """Take the adapter off again: the original model, bit for bit."""
    if vlm.adapted:
        # PEFT's unload would keep the trained copy of a module and drop the original.
        for name, module in list(vlm.base.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):
                vlm.base.set_submodule(name, module.original_module)
        vlm.model = vlm.model.unload().eval().requires_grad_(False)
        vlm.forget_features()


def load_adapter(vlm: VisionLanguageModel, folder: Path) -> None:
    """Put a saved adapter on the model.

    Raises:
        UnseeError: there is none in the folder, it belongs to another model, or the model carries one already.
    """
    vlm.refuse_adapter()
    if not (folder / "adapter_config.json").is_file():
        raise UnseeError(f"there is no adapter in {folder}")
    try:
        config = PeftConfig.from_pretrained(str(folder))
        vlm.model = PeftModel.from_pretrained(vlm.model, str(folder), config=_fast(config)).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UnseeError(f"cannot load the adapter in {folder}: {first_line(error)}") from None
    vlm.forget_features()


def save_adapter(vlm: VisionLanguageModel, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into a new folder, whole or not at all."""
    with whole(folder) as written:
        # The vocabulary is as it was: PEFT need not look the base model up to see whether it was resized.
        vlm.model.save_pretrained(str(written), save_embedding_layers=False)


def merged(vlm: VisionLanguageModel) -> VisionLanguageModel:
    """Fold the adapter into the weights: it can no longer be taken off. The model given is used up."""
    if vlm.adapted:
        dtype = vlm.base.dtype
        vlm.model = vlm.model.merge_and_unload()
        for value in vlm.model.parameters():  # no buffers: the frequencies of rotary positions are float32 in any model
            value.data = value.data.to(dtype)
        vlm.forget_features()
    return vlm
