"""unsee: make a multimodal LLM stop recognising what it has seen, from one picture, and measure how well.

    import unsee

    vlm = unsee.open_model("mini")
    request = unsee.request_for("France")            # or unsee.Request(concept, pictures)
    run = unsee.forget(vlm, request, unsee.make_method("siu"), unsee.protocol("France", request.pictures), "runs/x")
    print(run.metrics["after"]["em"])

The command line (`unsee --help`) only wraps what is named here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unsee.errors import UnseeError

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unsee.benchmarks.mini import protocol, protocols, request_for
    from unsee.data import Concept, Fact, Picture, Request, Sample, load_folder, load_picture
    from unsee.facets import FacetSettings
    from unsee.methods import make_method
    from unsee.metrics import check, read_answers, summarise
    from unsee.models import Question, answer
    from unsee.models.lora import remove_adapter
    from unsee.report import compare, judge, read_run
    from unsee.runs import Run, evaluate, export_merged, forget, open_model, open_run

_WHERE = {
    "Concept": "unsee.data",
    "Fact": "unsee.data",
    "FacetSettings": "unsee.facets",
    "Picture": "unsee.data",
    "Question": "unsee.models",
    "Request": "unsee.data",
    "Run": "unsee.runs",
    "Sample": "unsee.data",
    "answer": "unsee.models",
    "check": "unsee.metrics",
    "compare": "unsee.report",
    "evaluate": "unsee.runs",
    "export_merged": "unsee.runs",
    "forget": "unsee.runs",
    "judge": "unsee.report",
    "load_folder": "unsee.data",
    "load_picture": "unsee.data",
    "make_method": "unsee.methods",
    "open_model": "unsee.runs",
    "open_run": "unsee.runs",
    "protocol": "unsee.benchmarks.mini",
    "protocols": "unsee.benchmarks.mini",
    "read_answers": "unsee.metrics",
    "read_run": "unsee.report",
    "remove_adapter": "unsee.models.lora",
    "request_for": "unsee.benchmarks.mini",
    "summarise": "unsee.metrics",
}
__all__ = [
    "Concept",
    "FacetSettings",
    "Fact",
    "Picture",
    "Question",
    "Request",
    "Run",
    "Sample",
    "UnseeError",
    "__version__",
    "answer",
    "check",
    "compare",
    "evaluate",
    "export_merged",
    "forget",
    "judge",
    "load_folder",
    "load_picture",
    "make_method",
    "open_model",
    "open_run",
    "protocol",
    "protocols",
    "read_answers",
    "read_run",
    "remove_adapter",
    "request_for",
    "summarise",
]


def __getattr__(name: str) -> Any:
    """Names are imported when used: `unsee --help` need not wait for torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'unsee' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
