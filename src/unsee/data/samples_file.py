"""Samples as a file: `facets.json` of a run folder, and what users write in its form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from unsee.data.concept import Facet, Sample
from unsee.data.pictures import Picture, load_picture
from unsee.errors import UnseeError, first_line


def load_samples(path: Path, pictures: Sequence[Picture]) -> list[Sample]:
    """Read a whole facets file, as `facets.json` of a run folder is written: the user's own four targets.

    Args:
        path: of the file.
        pictures: that samples may name by their hash; others are files, named by their path seen from the file.

    Raises:
        UnseeError: the file is not of that form, or names a picture that is neither.
        PictureError: a picture file is none.
    """
    shown_as = {p.sha256: p for p in pictures}
    samples = []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise UnseeError(f"cannot read the facets file {path}: a list of samples is needed")
        for number, row in enumerate(rows, 1):
            shown = row.get("picture")
            if isinstance(shown, str) and shown not in shown_as and (path.parent / shown).is_file():
                shown_as[shown] = load_picture(path.parent / shown)
            if shown is not None and shown not in shown_as:
                raise UnseeError(
                    f"{path}: sample {number} shows the picture {shown!r}, which was not given and is no file either"
                )
            role, facet = row.get("role", "retain"), row.get("facet", "T4")
            if role not in ("forget", "retain") or facet not in get_args(Facet):
                raise UnseeError(f"{path}: sample {number} has the role {role!r} and the facet {facet!r}")
            texts = (row["question"], row["answer"])
            if not all(isinstance(t, str) and t.strip() for t in texts):
                raise UnseeError(f"{path}: sample {number} needs a question and an answer")
            truth = row.get("truth")
            if truth is not None and not (isinstance(truth, str) and truth.strip()):
                raise UnseeError(f"{path}: sample {number} has the truth {truth!r}: a text is needed, or none at all")
            picture = shown_as[shown] if shown else None
            samples.append(Sample(*texts, picture, row.get("target_phrase"), role, facet, truth))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UnseeError(f"cannot read the facets file {path}: {first_line(error)}") from None
    except KeyError as error:
        raise UnseeError(f"{path}: sample {number} lacks {error}") from None
    return samples


def as_rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Samples as they stand in `facets.json`; pictures are named by their hash."""
    return [
        {
            "facet": s.facet,
            "question": s.question,
            "answer": s.answer,
            "target_phrase": s.target_phrase,
            "picture": s.picture.sha256 if s.picture else None,
            "role": s.role,
            "truth": s.truth,
        }
        for s in samples
    ]
