"""Two-level designs: a fraction of all combinations, which effects it mixes up, and effects from what was measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

Row = tuple[int, ...]
"""One combination: -1 (the default) or +1 for each factor."""


def fraction(base: int, generators: Sequence[Sequence[int]]) -> list[Row]:
    """All combinations of the base factors; each further factor is the product of some of them.

    Args:
        base: number of factors that vary freely.
        generators: for each further factor the base factors, by number, whose product it is. With an odd number of
            them each, the combination in which all factors have their default is one of the rows.
    """
    return [
        (*levels, *(math.prod(levels[i] for i in some) for some in generators))
        for levels in itertools.product((-1, 1), repeat=base)
    ]


def _sign(row: Row, columns: Sequence[int]) -> int:
    return math.prod(row[c] for c in columns)


def resolution(rows: Sequence[Row]) -> int:
    """The least number of factors whose product is constant over the rows; one more than there are for all of them.

    At 4 no main effect is mixed up with another or with an interaction of two; those may be with one another.
    """
    factors = range(len(rows[0]))
    for size in range(1, len(rows[0]) + 1):
        if any(len({_sign(r, some) for r in rows}) == 1 for some in itertools.combinations(factors, size)):
            return size
    return len(rows[0]) + 1


def mixed(rows: Sequence[Row]) -> list[list[tuple[int, int]]]:
    """Interactions of two factors, those together that the rows cannot tell apart."""
    groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for pair in itertools.combinations(range(len(rows[0])), 2):
        signs = [_sign(r, pair) for r in rows]
        groups.setdefault(tuple(signs[0] * s for s in signs), []).append(pair)
    return list(groups.values())


def effect(values: Mapping[Row, float], columns: Sequence[int]) -> float:
    """Mean where the product of some factors is +1, minus the mean where it is -1.

    With one factor its main effect; with two their interaction: half of how much more the one does where the other
    has its new level.
    """
    return 2 * sum(_sign(row, columns) * v for row, v in values.items()) / len(values)
