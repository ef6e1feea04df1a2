"""The templates of the pages, and how they are filled in."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unsee.report.figures import duration, readable


def fill(name: str, **values: Any) -> str:
    """The page that a template makes of these values; every text among them is escaped, an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("unsee.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "readable": readable}
    return environment.get_template(name).render(**values)
