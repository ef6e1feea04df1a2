"""How many floating-point operations a SIU pass cannot do without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unsee.models.prompting import Suffix


def useful_flop(text: Any, prefix: int, suffixes: Sequence[Suffix], rank: int) -> dict[str, float]:
    """FLOP of one step and of recording the reference, for suffixes behind one picture.

    With T tokens (the prefix once, and every suffix), A answer tokens, n layers, N weights in the linear layers of
    all of them, R in their LoRA, h the hidden size, V the vocabulary and S the pairs (position, earlier position it
    may look at), a multiply-add counted as 2:

        forward   = 2 N T + 2 R T + 4 n h S + 2 h V A       linear layers, LoRA, attention (QK and PV), head
        backward  = 2 N T + 4 R T + 8 n h S + 2 h V A       W and head are frozen: gradients of inputs alone;
                                                            LoRA: of inputs and weights; attention: of Q, K, P and V
        reference = 2 N T         + 4 n h S                 adapter off, no gradient; its states are kept
        S         = P (P + 1) / 2 + sum over suffixes of s P + s (s + 1) / 2

    Not counted as useful: the head on the reference's states, 2 h V A at every step, which keeping log-probabilities
    would save. Left out as small or not arithmetic of matrices: vision tower (once a picture), norms, rotations,
    softmax, the loss, the optimiser, and what attention kernels compute again in their backward pass.

    Args:
        text: the language model's config.
        prefix: tokens before the suffixes, P.
        suffixes: questions with answers.
        rank: of the LoRA on every linear layer.
    """
    h, n, head_size = text.hidden_size, text.num_hidden_layers, text.hidden_size // text.num_attention_heads
    inner, key = text.intermediate_size, head_size * text.num_key_value_heads
    linear = [(h, h), (h, key), (h, key), (h, h), (h, inner), (h, inner), (inner, h)]
    weights = n * sum(a * b for a, b in linear)
    lora = n * rank * sum(a + b for a, b in linear)
    lengths = [len(s.ids) for s in suffixes]
    tokens, answers = prefix + sum(lengths), sum(len(s.answer_ids) for s in suffixes)
    pairs = prefix * (prefix + 1) / 2 + sum(s * prefix + s * (s + 1) / 2 for s in lengths)
    head = 2.0 * h * text.vocab_size * answers
    forward = 2.0 * (weights + lora) * tokens + 4.0 * n * h * pairs + head
    backward = (2.0 * weights + 4.0 * lora) * tokens + 8.0 * n * h * pairs + head
    return {"step": forward + backward, "recording": 2.0 * weights * tokens + 4.0 * n * h * pairs}
