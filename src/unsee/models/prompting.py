"""From a question to token ids, split after the picture: the prefix is shared, the suffix is the question's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unsee.errors import UnseeError, first_line

Span = tuple[int, int]
"""Begin and end of a part of a text, in characters."""


def spans_of(phrase: str | None, text: str) -> tuple[Span, ...]:
    """Every place where the phrase stands in the text; none where there is no phrase."""
    found, at = [], text.find(phrase) if phrase else -1
    while phrase and at >= 0:
        found.append((at, at + len(phrase)))
        at = text.find(phrase, at + len(phrase))
    return tuple(found)


@dataclass(frozen=True)
class Suffix:
    """What follows the picture: the question, and the answer where there is one.

    Args:
        ids: token ids.
        answer_start: index in `ids` of the answer's first token; `len(ids)` where there is no answer.
        target: for each answer token, whether it lies in the target phrase (K_S is 0 there).
    """

    ids: tuple[int, ...]
    answer_start: int
    target: tuple[bool, ...] = ()

    @property
    def answer_ids(self) -> tuple[int, ...]:
        return self.ids[self.answer_start :]


class Prompter:
    """Turns questions and answers into ids, by the model's own chat template.

    Args:
        processor: the `transformers` processor of an image-text-to-text model.
        image_token_id: the id that stands for one image feature.
        image_tokens: how many of them a picture takes.

    Raises:
        UnseeError: there is no chat template, it has no place for a picture, or the tokenizer tells no offsets.
    """

    def __init__(self, processor: Any, image_token_id: int, image_tokens: int):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_token_id = image_token_id
        self.image_tokens = image_tokens
        self.end_id: int = self.tokenizer.eos_token_id
        try:
            head, _ = self._split(self._ids(self._text("x", True)))
            self.suffix("x", "x")
        except (ValueError, NotImplementedError) as error:  # no template, none for pictures, or no offsets
            raise UnseeError(f"the model cannot be asked about a picture: {first_line(error)}") from None
        self.prefix: tuple[int, ...] = (*head, *([image_token_id] * image_tokens))

    def _text(self, question: str, picture: bool) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] if picture else []
        content.append({"type": "text", "text": question})
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def _ids(self, text: str) -> list[int]:
        # As the processor does: the tokenizer adds its begin token where the template has not written it.
        begin = self.tokenizer.bos_token
        written = begin is not None and text.startswith(begin)
        return self.tokenizer(text, add_special_tokens=not written)["input_ids"]

    def _split(self, ids: list[int]) -> tuple[list[int], list[int]]:
        if self.image_token_id not in ids:
            raise ValueError("its chat template has no place for one")
        at = ids.index(self.image_token_id)
        return ids[:at], ids[at + 1 :]

    def suffix(
        self, question: str, answer: str | None = None, picture: bool = True, target: Sequence[Span] = ()
    ) -> Suffix:
        """Ids of a question, and of its answer closed by the end token.

        Args:
            question: plain text; special tokens in it are the caller's risk.
            answer: the answer to learn or score, without the end token; None to leave it open.
            picture: whether a picture stands before the question.
            target: parts of the answer whose tokens are marked in `Suffix.target`; see `spans_of`.
        """
        prompt = self._text(question, picture)
        ids = self._ids(prompt)
        if picture:
            ids = self._split(ids)[1]
        if answer is None:
            return Suffix(tuple(ids), len(ids))
        coded = self.tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
        marked = [any(start < high and end > low for low, high in target) for start, end in coded["offset_mapping"]]
        # The end token follows the phrase when the phrase ends the answer; the original is no judge of it either.
        closes = bool(marked) and marked[-1]
        return Suffix((*ids, *coded["input_ids"], self.end_id), len(ids), (*marked, closes))

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()
