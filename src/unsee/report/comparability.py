"""Whether runs can be compared: which of them are alike, and in words what the others differ in.

A comparison is never refused. What is said here names runs by their number alone, so that it tells nothing that
redaction hides.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from unsee.report.figures import listed
from unsee.report.read import RunView
from unsee.report.verdict import AUGMENTED

Numbered = Mapping[int, RunView]
"""Runs by the number they have on the page."""

Groups = Sequence[tuple[int, ...]]

Question = tuple[str, str, str, str, tuple[str, ...]]
"""Set, form, picture, text and keywords: the same question is scored by the same rule."""


@dataclass(frozen=True)
class Comparability:
    """How the runs of a page belong together, by number.

    Args:
        concepts: runs in groups of one concept, in order.
        alike: runs in groups of one concept, one model and the same questions, in order.
        cautions: what a reader must know before setting the runs beside each other.
    """

    concepts: tuple[tuple[int, ...], ...]
    alike: tuple[tuple[int, ...], ...]
    cautions: tuple[str, ...]


def comparability(runs: Numbered) -> Comparability:
    """How these runs belong together; to be asked before anything is redacted."""
    concepts = grouped(runs, _concept)
    cautions = (
        *_models(runs),
        *_concepts(concepts),
        *_asked(runs, concepts),
        *_learned_from(runs, concepts),
        *_altered_copies(runs),
    )
    same = grouped(runs, lambda view: (_concept(view), weights(view), _questions(view)))
    return Comparability(tuple(concepts), tuple(same), cautions)


def named(numbers: Sequence[int]) -> str:
    """ "run 2", "runs 1 and 3", "runs 1 to 4 and 7"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    parts: list[str] = []
    for span in spans:
        parts += [f"{span[0]} to {span[-1]}"] if len(span) > 2 else map(str, span)
    return f"{'run' if len(numbers) == 1 else 'runs'} {listed(parts)}"


def grouped(runs: Numbered, key: Callable[[RunView], Hashable]) -> list[tuple[int, ...]]:
    """The numbers of runs that have the same key, in order of the first of each."""
    groups: dict[Hashable, list[int]] = {}
    for number, view in runs.items():
        groups.setdefault(key(view), []).append(number)
    return [tuple(numbers) for numbers in groups.values()]


def _models(runs: Numbered) -> Iterator[str]:
    groups = grouped(runs, weights)
    if len(groups) > 1:
        parts = [f"{named(group)} from {_model(runs[group[0]])}" for group in groups]
        yield (
            f"The runs do not start from the same model: {listed(parts)}. What differs between them need not come "
            "from the method."
        )


def _model(view: RunView) -> str:
    model = view.config.get("model") or {}
    if not model.get("sha256"):
        return "weights it does not name"
    return f"the weights {model['sha256']!s:.8} in {model.get('dtype') or 'a precision not told'}"


def weights(view: RunView) -> tuple[str, str]:
    """Hash and precision of the model a run starts from; "" where it does not say."""
    model = view.config.get("model") or {}
    return str(model.get("sha256") or ""), str(model.get("dtype") or "")


def _concept(view: RunView) -> frozenset[tuple[str, str]]:
    return frozenset((concept.kind, concept.core.casefold()) for concept in view.concepts)


def _concepts(groups: Groups) -> Iterator[str]:
    if len(groups) > 1:
        yield (
            f"The runs forget {len(groups)} different concepts ({'; '.join(map(named, groups))}). One concept may be "
            "harder to forget than another: compare runs of the same one, or means over the same ones."
        )


def _asked(runs: Numbered, groups: Groups) -> Iterator[str]:
    for group in groups:
        questions = [_questions(runs[number]) for number in group]
        if len(set(questions)) > 1:
            shared = len(frozenset.intersection(*questions))
            most, least = max(map(len, questions)), min(map(len, questions))
            total = f"{most}" if most == least else f"{least} to {most}"
            yield (
                f"{_capital(named(group))} forget the same concept, but were not asked the same questions: "
                f"{shared or 'none'} of {total} {'is' if shared == 1 else 'are'} common to all."
            )


def _questions(view: RunView) -> frozenset[Question]:
    return frozenset((e.set, e.form, e.picture, e.question, e.keywords) for e in view.exchanges if e.after is not None)


def _learned_from(runs: Numbered, groups: Groups) -> Iterator[str]:
    for group in groups:
        if len({frozenset(p.sha256 for p in runs[number].trained_on) for number in group}) > 1:
            yield f"{_capital(named(group))} forget the same concept, but learned from different pictures of it."


def _altered_copies(runs: Numbered) -> Iterator[str]:
    augmented = [number for number, view in runs.items() if view.test_pictures == "augmented"]
    if augmented:
        yield f"In {named(augmented)} the test pictures are {AUGMENTED}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
