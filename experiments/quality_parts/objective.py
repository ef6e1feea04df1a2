"""The one number that settings are chosen by: the harmonic mean of five shares of what the original model knew.

    forgotten    of the questions on unseen pictures of the concept in whose answers the original recognises it,
                 those in whose answers it is recognised no more (EM); an empty answer, or one that runs in circles,
                 does not count
    naming       of the pictures of other concepts that the original names, those still named
    yes/no       of the yes/no questions on them that it answers rightly, those still answered rightly
    same kind    of other pictures of concepts of the same kind that it names, those still named
    text         of the text questions about the concept that it answers rightly, those still answered rightly

A degenerate answer (empty, in circles, words outside the lexicon) keeps nothing. Shares below 0.01 count as 0.01, so
that a search among bad settings still sees which are less bad. A model that was not changed at all scores 0.048, one
that forgot everything 0.012; a run that failed scores 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quality_parts.jobs import Record
from unsee.metrics import Answer, pair_up
from unsee.metrics.judging import is_degenerate, is_forgotten, is_right
from unsee.metrics.text import is_loop, words

FLOOR = 0.01


def _gone(answer: Answer) -> bool:
    # Words outside the lexicon are allowed here: a model that lost a name may make one up, and so may one taught to.
    return is_forgotten(answer) and bool(words(answer.answer)) and not is_loop(answer.answer)


def _plainly_gone(answer: Answer) -> bool:
    return _gone(answer) and not is_degenerate(answer) and not answer.other_names


def _kept(answer: Answer) -> bool:
    return is_right(answer) and not is_degenerate(answer)


@dataclass(frozen=True)
class Part:
    """A share of questions.

    Args:
        name: in tables.
        set, forms: which answers it looks at.
        holds: whether an answer of the unlearned model is as it should be.
    """

    name: str
    set: str
    forms: tuple[str, ...]
    holds: Callable[[Answer], bool] = _kept


PARTS = (
    Part("forgotten", "forget", ("name", "yes_no"), _gone),
    Part("naming", "utility", ("name",)),
    Part("yes/no", "utility", ("yes_no",)),
    Part("same kind", "neighbours", ("name",)),
    Part("text", "text_concept", ("text",)),
)
KEPT = tuple(p.name for p in PARTS[1:])


def shares(answers: Sequence[Answer], strictly: bool = False) -> dict[str, float]:
    """Each part's share, 0 to 1, of one run's answers, before and after.

    A part is left out where the original answers none of its questions rightly.

    Args:
        answers: of both models.
        strictly: another's name and words that nobody knows are no forgetting either. Nothing was tuned by this.
    """
    pairs, found = pair_up(answers), {}
    for part in PARTS:
        holds = _plainly_gone if strictly and part.holds is _gone else part.holds
        held = [
            holds(new)
            for old, new in pairs
            if old.set == part.set and old.form in part.forms and is_right(old) and not is_degenerate(old)
        ]
        if held:
            found[part.name] = sum(held) / len(held)
    return found


def objective(found: dict[str, float]) -> float:
    """Harmonic mean of the shares; 0 where there are none."""
    return len(found) / sum(1 / max(v, FLOOR) for v in found.values()) if found else 0.0


def scored(record: Record, original: Record, strictly: bool = False) -> dict[str, float]:
    """`shares` and objective of a run, by name; all 0 for one that failed: it leaves nothing that could be used."""
    if record["error"]:
        return {**{p.name: 0.0 for p in PARTS}, "objective": 0.0}
    found = shares([Answer(**a) for a in original["answers"] + record["answers"]], strictly)
    return {**found, "objective": objective(found)}
