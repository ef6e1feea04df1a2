"""Which answers the page shows: spread evenly, never hiding a failure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from unsee.report.read import Exchange, short

T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """One picture (or one text subject) with some of the questions asked about it."""

    picture: str
    subject: str
    exchanges: tuple[Exchange, ...]


@dataclass(frozen=True)
class Side:
    """One answer to a question: who gave it, what it is (None: not asked), and whether it is as wanted.

    `after` is False for an original model: that one still knows what is to be forgotten.
    """

    label: str
    text: str | None
    good: bool | None
    after: bool


def before_and_after(asked: Exchange) -> tuple[Side, ...]:
    """The answers of the original model and of the unlearned one."""
    return (
        Side("Before", asked.before, asked.good_before, after=False),
        Side("After", asked.after, asked.good_after, after=True),
    )


@dataclass(frozen=True)
class Choice:
    """Cards, and how many there were to choose from.

    Args:
        cards: what is shown.
        pictures: pictures (or text subjects) in all.
        questions: questions in all.
        failures: questions whose answer after forgetting is not as wanted, in all.
    """

    cards: tuple[Card, ...]
    pictures: int
    questions: int
    failures: int

    @property
    def shown(self) -> int:
        """How many questions the cards show."""
        return sum(len(card.exchanges) for card in self.cards)


def choose(exchanges: Iterable[Exchange], shown: Container[str], cards: int, questions: int) -> Choice:
    """Choose cards evenly over the subjects and pictures; up to a third of them go to failures, if there are any.

    Args:
        exchanges: of one set, or of several alike.
        shown: short hashes of the pictures that can be shown. Pictures that cannot are taken only where none can.
        cards: at most so many pictures.
        questions: at most so many questions a picture; failures first, then each form once.
    """
    everything = list(exchanges)
    groups: dict[tuple[str, str], list[Exchange]] = {}
    for exchange in everything:
        groups.setdefault((exchange.subject, exchange.picture), []).append(exchange)
    usable = {key: group for key, group in groups.items() if short(key[1]) in shown} or groups
    order = _round_robin(list(usable))
    failing = [key for key in order if any(e.good_after is False for e in usable[key])]
    first = failing[: max(1, cards // 3)] if failing else []
    chosen = [*first, *_evenly([key for key in order if key not in first], cards - len(first))]
    made = tuple(Card(key[1], key[0], _pick(usable[key], questions)) for key in order if key in chosen)
    return Choice(made, len(groups), len(everything), sum(e.good_after is False for e in everything))


def _pick(group: Sequence[Exchange], most: int) -> tuple[Exchange, ...]:
    forms: set[str] = set()
    ranked = []
    for place, exchange in enumerate(group):
        ranked.append((exchange.good_after is not False, exchange.form in forms, place))
        forms.add(exchange.form)
    return tuple(group[place] for place in sorted(place for _, _, place in sorted(ranked)[:most]))


def _round_robin(keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first picture of each subject, then the second of each, and so on."""
    seen: dict[str, int] = {}
    turns = []
    for place, (subject, picture) in enumerate(keys):
        seen[subject] = seen.get(subject, -1) + 1
        turns.append((seen[subject], place, (subject, picture)))
    return [key for _, _, key in sorted(turns)]


def _evenly(keys: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """At most so many keys, evenly over the subjects, and evenly over the pictures of each."""
    own: dict[str, list[tuple[str, str]]] = {}
    for key in keys:
        own.setdefault(key[0], []).append(key)
    subjects = _every(list(own), most)
    each = -(-most // len(subjects)) if subjects else 0
    return _round_robin([key for subject in subjects for key in _every(own[subject], each)])[:most]


def _every(items: Sequence[T], most: int) -> list[T]:
    return list(items) if len(items) <= most else [items[i * len(items) // most] for i in range(most)]
