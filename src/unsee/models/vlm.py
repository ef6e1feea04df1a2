"""A multimodal LLM with its processor and anatomy, and the forwards that unsee needs of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from PIL import Image
from torch import nn

from unsee.data.pictures import Picture
from unsee.errors import UnseeError, first_line
from unsee.losses import label_log_probs
from unsee.models.anatomy import Anatomy, anatomy_of
from unsee.models.attention import SLICED, attending
from unsee.models.packing import EncodedPack, PackBatch, batches, collate
from unsee.models.prompting import Prompter


@dataclass(frozen=True)
class Seen:
    """What the vision parts make of pictures.

    Args:
        layers: states before V's first layer and behind each, `[pictures, tokens, width]`, class token included.
        projected: P's output, as W gets it, `[pictures, image_tokens, hidden]`.
    """

    layers: tuple[torch.Tensor, ...]
    projected: torch.Tensor


class _Reached(Exception):
    """A forward has come as far as it need go."""

    def __init__(self, states: torch.Tensor):
        self.states = states


MINI = "mini"
"""The name by which the embedded model is asked for."""
SCORED_AT_ONCE = 256
"""Tokens whose logits are made at once where given answers are scored."""


class VisionLanguageModel:
    """Model, processor and anatomy; text and pictures in, log-probabilities at answer positions out.

    Args:
        model: an image-text-to-text model of a supported family.
        processor: its processor.
        name: how reports call it.
        path: the folder it was loaded from, where it was.

    Attributes:
        sliced: whether packs are attended to in slices; False: under one mask over the whole pack, the plain path.

    Raises:
        UnseeError: the model's family is not supported, or its pictures take different numbers of tokens.
    """

    def __init__(self, model: Any, processor: Any, name: str, path: Path | None = None):
        self.model = model
        self.processor = processor
        self.name = name
        self.path = path
        self.anatomy: Anatomy = anatomy_of(model.config.model_type)
        # Packs need a mask of their own; a kernel that cannot read it would answer wrongly without a word.
        model.set_attn_implementation("sdpa")
        self._seen: dict[tuple[bool, str], torch.Tensor] = {}
        self._is_original = False
        self._place: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.sliced = True
        blank = [Picture.from_image(Image.new("RGB", size), "blank") for size in ((64, 64), (96, 48))]
        with torch.no_grad():
            features = self._features(blank)
        if len(features) != len(blank):
            raise UnseeError(
                f"{name}: how many tokens a picture takes depends on its shape in this model; it is not supported"
            )
        self.prompter = Prompter(processor, model.config.image_token_id, features.shape[1])

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def base(self) -> Any:
        """The `transformers` model itself, adapters or not."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def adapted(self) -> bool:
        """Whether an adapter is on the model."""
        return self.base is not self.model

    def refuse_adapter(self) -> None:
        """An error where an adapter is on the model."""
        if self.adapted:
            raise UnseeError("the model carries an adapter already; take it off or merge it first")

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer: the tokenizer's own, and whatever `generate` would stop at."""
        said = self.base.generation_config.eos_token_id
        return frozenset({self.prompter.end_id, *(said if isinstance(said, list) else () if said is None else (said,))})

    def part(self, path: str) -> nn.Module:
        return self.base.get_submodule(path)

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the head gives logits for; at least as many as the tokenizer has."""
        return self.base.get_output_embeddings().weight.shape[0]

    @contextlib.contextmanager
    def original(self) -> Iterator[None]:
        """The model as it was before forgetting: the same weights with the adapter switched off."""
        before, self._is_original = self._is_original, True
        try:
            with self.model.disable_adapter() if hasattr(self.model, "disable_adapter") else contextlib.nullcontext():
                yield
        finally:
            self._is_original = before

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Arithmetic in the precision of the weights where that is half (adapters stay float32)."""
        dtype = self.base.dtype
        half = dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(self.device.type, dtype) if half else contextlib.nullcontext():
            yield

    def pixels(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """`[pictures, 3, height, width]` as the processor makes them, in the model's dtype."""
        found = self.processor.image_processor([p.image for p in pictures], return_tensors="pt")["pixel_values"]
        return found.to(self.base.device, self.base.dtype)

    @contextlib.contextmanager
    def placing(self, place: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
        """Pictures that are asked about are seen as `place` makes their pixels; no features are kept meanwhile."""
        before, self._place = self._place, place
        try:
            yield
        finally:
            self._place = before

    def _features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        pixels = self.pixels(pictures)
        return self.see(self._place(pixels) if self._place else pixels).projected

    def see(self, pixels: torch.Tensor) -> Seen:
        """V and P on pixels, with gradients where they take any."""
        with self.autocast():
            found = self.base.model.get_image_features(pixel_values=pixels, output_hidden_states=True)
        return Seen(found.hidden_states, torch.stack([f.reshape(-1, f.shape[-1]) for f in found.pooler_output]))

    def see_until(self, pixels: torch.Tensor, layer: int) -> torch.Tensor:
        """The states behind one of V's layers (1 is the first), `[pictures, tokens, width]`; no more is run."""

        def stop(module: nn.Module, args: Any, result: Any) -> None:
            raise _Reached(result[0] if isinstance(result, tuple) else result)

        hook = self.vision_layers[layer - 1].register_forward_hook(stop)
        try:
            with self.autocast():
                self.part(self.anatomy.vision)(pixels)
        except _Reached as reached:
            return reached.states
        finally:
            hook.remove()
        raise UnseeError(f"the vision tower never came to its layer {layer}")

    @property
    def vision_layers(self) -> nn.ModuleList:
        """V's layers, in order; those of its trained copy where it has one and that is switched on."""
        vision = self.part(self.anatomy.vision)
        if isinstance(vision, ModulesToSaveWrapper):
            trained = vision.modules_to_save[vision.active_adapters[0]]
            vision = vision.original_module if vision.disable_adapters else trained
        return next(m for m in vision.modules() if isinstance(m, nn.ModuleList))

    @property
    def vision_depth(self) -> int:
        """How many of V's layers P reads: LLaVA-1.5 leaves out the last."""
        read, count = self.base.config.vision_feature_layer, len(self.vision_layers)
        return max(at if at >= 0 else count + 1 + at for at in ([read] if isinstance(read, int) else read))

    @property
    def vision_layer_paths(self) -> list[str]:
        """Where those that P reads are, in order, as long as V as a whole has no copy."""
        layers, vision = self.vision_layers, self.anatomy.vision
        path = next(name for name, module in self.part(vision).named_modules(prefix=vision) if module is layers)
        return [f"{path}.{number}" for number in range(self.vision_depth)]

    def image_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """Projected features `[pictures, image_tokens, hidden]`.

        Computed once a picture and kept in the main memory (tokens x hidden numbers each) while V and P take no
        gradient; computed at every call while either does. `forget_features` drops them.
        """
        seeing = [
            n for part in (self.anatomy.vision, self.anatomy.projector) for n in self.part(part).named_parameters()
        ]
        if self._place or any(value.requires_grad for _, value in seeing):
            return self._features(pictures)
        # Where an adapter reaches into the vision parts, the original sees otherwise than the unlearned model.
        original = self._is_original and any("modules_to_save" in name or "lora_" in name for name, _ in seeing)
        new = list({p.sha256: p for p in pictures if (original, p.sha256) not in self._seen}.values())
        with torch.no_grad():
            for at in range(0, len(new), 32):
                some = new[at : at + 32]
                for picture, feature in zip(some, self._features(some).cpu(), strict=True):
                    self._seen[original, picture.sha256] = feature
        return torch.stack([self._seen[original, p.sha256] for p in pictures]).to(self.device)

    def forget_features(self) -> None:
        """Drop the kept image features: the vision parts have changed."""
        self._seen.clear()

    def embed(self, ids: torch.Tensor, is_image: torch.Tensor, pictures: Sequence[Picture]) -> torch.Tensor:
        """Input embeddings `[rows, length, hidden]` with image features at the image tokens."""
        embedded = self.base.get_input_embeddings()(ids.to(self.device))
        if pictures:
            features = self.image_features(pictures).to(embedded.dtype)
            where = is_image.to(self.device)[..., None].expand_as(embedded)
            embedded = embedded.masked_scatter(where, features.reshape(-1))
        return embedded

    @property
    def depth(self) -> int:
        """How many layers W has."""
        return len(getattr(self.part(self.anatomy.language), self.anatomy.layers))

    def untouched_layers(self) -> int:
        """How many of W's layers, from the first on, training leaves as they are, and all that comes before them.

        What enters the layer after them is the same at every step, so it need be computed only once.
        """
        above = (f"{self.anatomy.language}.{self.anatomy.norm}.", f"{self.anatomy.head}.")
        lowest = self.depth
        for name, value in self.base.named_parameters():
            if value.requires_grad and not name.startswith(above):
                lowest = min(lowest, self.anatomy.layer_of(name) or 0)
        return lowest

    def _decode(self, batch: PackBatch, states: torch.Tensor, start: int, end: int | None) -> torch.Tensor:
        """Some of W's layers, and its norm behind the last, run by W's own forward: masks and rotations are its own."""
        language, layers, norm = self.part(self.anatomy.language), self.anatomy.layers, self.anatomy.norm
        whole, last = getattr(language, layers), getattr(language, norm)
        setattr(language, layers, whole[start:end])
        if end is not None:
            setattr(language, norm, nn.Identity())
        try:
            with self.autocast(), attending(language, SLICED) if self.sliced else contextlib.nullcontext():
                return language(
                    inputs_embeds=states,
                    position_ids=batch.positions.to(self.device),
                    use_cache=False,
                    **({"slices": batch.slices} if self.sliced else {"attention_mask": batch.mask.to(self.device)}),
                ).last_hidden_state
        finally:
            setattr(language, layers, whole)
            setattr(language, norm, last)

    def entering(self, batch: PackBatch, layer: int) -> torch.Tensor:
        """States that enter a layer of W, `[rows, length, hidden]`; layer 0: the input embeddings."""
        embedded = self.embed(batch.ids, batch.is_image, batch.pictures)
        return self._decode(batch, embedded, 0, layer) if layer else embedded

    def hidden(
        self, batch: PackBatch, entering: torch.Tensor | None = None, layer: int = 0, end: int | None = None
    ) -> torch.Tensor:
        """Hidden states at the positions that predict answer tokens, `[tokens, hidden]`.

        Args:
            batch: what is asked.
            entering: states that enter `layer`, where they are known; see `entering`.
            layer: from which layer on W is run.
            end: how many of W's layers are run, counted from its first; the states are those behind the last of
                them, and no more is run. None: all layers and W's norm.
        """
        states = self.entering(batch, layer) if entering is None else entering
        return self._decode(batch, states, layer, end).flatten(0, 1)[batch.predict.to(self.device)]

    def logits(self, batch: PackBatch, entering: torch.Tensor | None = None, layer: int = 0) -> torch.Tensor:
        """Logits `[tokens, vocabulary]` in float32, computed at answer positions only; arguments as in `hidden`."""
        return self.head(self.hidden(batch, entering, layer))

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """Logits `[tokens, vocabulary]` in float32 of states `[tokens, hidden]` as `hidden` gives them."""
        with self.autocast():
            return self.part(self.anatomy.head)(states).float()

    @torch.no_grad()
    def log_probs(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Log-probabilities `[tokens]` of given tokens at states `[tokens, hidden]`; few logits are held at once."""
        parts = zip(states.split(SCORED_AT_ONCE), labels.to(states.device).split(SCORED_AT_ONCE), strict=True)
        return torch.cat([label_log_probs(self.head(some), right).cpu() for some, right in parts])

    @torch.no_grad()
    def score(self, packs: Sequence[EncodedPack]) -> list[list[torch.Tensor]]:
        """Log-probabilities of given answers: for each pack, for each suffix, `[answer tokens]`."""
        scored: list[list[torch.Tensor]] = [[] for _ in packs]
        for group in batches(packs, len(self.prompter.prefix)):
            batch = collate([packs[i] for i in group], self.prompter)
            found = self.log_probs(self.hidden(batch), batch.labels)
            sizes = [len(s.answer_ids) for i in group for s in packs[i].suffixes]
            parts = iter(found.split(sizes))
            for i in group:
                scored[i] = [next(parts) for _ in packs[i].suffixes]
        return scored

    def weights_sha256(self) -> str:
        """Hash of the original weights by name, type, shape and bytes; adapters are left out."""
        weights = {
            name.replace(".base_layer", "").replace(".original_module", ""): value
            for name, value in self.base.state_dict().items()
            if "lora_" not in name and ".modules_to_save." not in name
        }
        digest = hashlib.sha256()
        for name, value in sorted(weights.items()):
            digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""OWNER/NAME."""


def fitting_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16; where it would be emulated, float16 on a GPU and float32 on a processor, some hundred times faster."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    known = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if torch.device(device).type != "cpu" or known else torch.float32


def load(model: str, device: str = "cpu", dtype: torch.dtype | None = None) -> VisionLanguageModel:
    """Load a model by folder or hub name.

    Args:
        model: a folder that `save_pretrained` wrote, or a hub name ("llava-hf/llava-1.5-7b-hf").
        device: "cpu", "cuda", "cuda:1", ...
        dtype: of the weights; None: `fitting_dtype`.

    Raises:
        UnseeError: there is no such model or device, its family is not supported, or its files are damaged.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    folder = Path(model).expanduser()
    if not folder.exists() and not _HUB_NAME.fullmatch(model):
        raise UnseeError(
            f"there is no model or run {model!r}: give '{MINI}', a folder written by save_pretrained, or a hub name"
        )
    source = str(folder) if folder.exists() else model
    place = _device(device)
    dtype = dtype or fitting_dtype(device)
    try:
        config = AutoConfig.from_pretrained(source)
        anatomy_of(config.model_type)
        read: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, output_loading_info=True)
        processor = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UnseeError(f"cannot load the model {model!r}: {first_line(error)}") from None
    loaded, found = read
    if missing := sorted(found["missing_keys"]):  # transformers would fill them at random
        raise UnseeError(f"the model {model!r} lacks weights: {', '.join(missing[:3])}")
    loaded = loaded.to(place).eval().requires_grad_(False)
    name, path = (folder.resolve().name, folder.resolve()) if folder.exists() else (model, Path(model))
    return VisionLanguageModel(loaded, processor, name, path)


def _device(name: str) -> torch.device:
    """A device that is really there."""
    try:
        place = torch.device(name)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise UnseeError(f"cannot use the device {name!r}: {first_line(error)}") from None
    return place
