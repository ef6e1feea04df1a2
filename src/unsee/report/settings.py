"""With which settings a run was made, and in which of them runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unsee.report.comparability import Numbered, grouped, weights
from unsee.report.figures import readable
from unsee.report.read import RunView


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as ("lora.r", "32")."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", readable(", ".join(map(str, value)) or "none")
        else:
            yield f"{prefix}{key}", readable("none" if value is None else str(value))


def method(view: RunView) -> str:
    """The method of a run, or "unknown method"."""
    return readable(str(view.config.get("method") or "unknown method"))


def preset(view: RunView) -> str:
    """The preset of a run, or "" where it has none."""
    return readable(str(view.config.get("preset") or ""))


def made_alike(runs: Numbered) -> list[tuple[int, ...]]:
    """Runs in groups of one method, preset, model and the same settings: they differ in concept or seed."""
    return grouped(runs, lambda view: (method(view), preset(view), weights(view), tuple(sorted(_flat(view).items()))))


def told_apart(runs: Numbered) -> dict[int, tuple[str, ...]]:
    """What else tells a run from others of its method and preset: settings that differ, and the model if that does."""
    said: dict[int, tuple[str, ...]] = {}
    several_models = len(grouped(runs, weights)) > 1
    for group in grouped(runs, lambda view: (method(view), preset(view))):
        settings = {number: _flat(runs[number]) for number in group}
        keys = dict.fromkeys(key for own in settings.values() for key in own)
        differing = [key for key in keys if len({own.get(key) for own in settings.values()}) > 1]
        for number in group:
            own = settings[number]
            words = [f"{key} {own[key]}" if key in own else f"no {key}" for key in differing]
            model = weights(runs[number])[0][:8]
            said[number] = (*words, *((f"model {model or 'not told'}",) if several_models else ()))
    return said


def _flat(view: RunView) -> dict[str, str]:
    """The method's settings, and how what it learned from was made."""
    told = {"facets": "facets", "protected_pictures": "pictures protected"}  # SIU has a setting of that name
    data = {name: view.config[key] for key, name in told.items() if key in view.config}
    return dict(flat({**(view.config.get("settings") or {}), **data}))
