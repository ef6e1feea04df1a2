"""The questions that several runs were all asked, and how each of them answered."""

from __future__ import annotations

from dataclasses import replace

from unsee.report.comparability import Numbered, named
from unsee.report.examples import Side
from unsee.report.read import Exchange
from unsee.report.settings import method

Key = tuple[str, str, str]


class SharedQuestions:
    """What all of some runs of one concept answered: the same question on the same picture, in the same set.

    Args:
        runs: one or more, by number.
    """

    def __init__(self, runs: Numbered) -> None:
        self._methods = {number: method(view) for number, view in runs.items()}
        self._answered: dict[int, dict[Key, Exchange]] = {
            number: {_key(e): e for e in view.exchanges if e.after is not None} for number, view in runs.items()
        }
        first, *others = self._answered.values()
        self._common = [key for key in first if all(key in own for own in others)]

    def asked(self, *sets: str) -> list[Exchange]:
        """The shared questions of these sets; `good_after` is False where the answer of any run is not as wanted."""
        return [self._merged(key) for key in self._common if key[0] in sets]

    def sides(self, asked: Exchange) -> tuple[Side, ...]:
        """The original's answer, then that of every run; where originals answered differently, each of theirs."""
        own = {number: answered[_key(asked)] for number, answered in self._answered.items()}
        originals: dict[str, list[int]] = {}
        for number, e in own.items():
            if e.before is not None:
                originals.setdefault(e.before, []).append(number)
        sides = []
        for text, numbers in originals.items():
            label = "Original model" if len(originals) == 1 else f"Original model of {named(numbers)}"
            sides.append(Side(label, text, own[numbers[0]].good_before, after=False))
        for number, e in own.items():
            sides.append(Side(f"{number} · {self._methods[number]}", e.after, e.good_after, after=True))
        return tuple(sides)

    def _merged(self, key: Key) -> Exchange:
        own = [answered[key] for answered in self._answered.values()]
        return replace(own[0], good_after=all(e.good_after is not False for e in own))


def _key(asked: Exchange) -> Key:
    return asked.set, asked.picture, asked.question
