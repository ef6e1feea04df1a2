"""The command line. It parses, calls the Python API, and shows; nothing else happens here."""

from __future__ import annotations

import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, Parameter, validators

from unsee import __version__
from unsee.errors import RequirementError, UnseeError, first_line
from unsee.exits import ending
from unsee.show import Display

if TYPE_CHECKING:
    from unsee.data import Concept, Picture, Request, Sample
    from unsee.methods import Method
    from unsee.models import VisionLanguageModel

Kind = Literal["person", "logo", "flag", "animal", "thing", "place", "character", "style"]

app = App(
    name="unsee",
    version=__version__,
    help="""Make a multimodal LLM stop recognising what it has seen, from one picture, and measure how well.

    Start with `unsee demo`: it forgets a fictitious person with the embedded model, on the CPU, in minutes.
    """,
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # `unsee.exits` has a line to say
)

Model = Annotated[str, Parameter(help="'mini' (the embedded model), a save_pretrained folder, or a hub name.")]
Out = Annotated[Path | None, Parameter(help="Run folder to write; it must not exist. An interrupted run goes on.")]
Require = Annotated[
    str | None,
    Parameter(help="What the result must reach, e.g. 'em>=95,specificity>=-2'; if it does not, exit with 4."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object, for machines.")]
Redact = Annotated[
    bool,
    Parameter(negative="", help="Keep name and pictures out of the report; other files of the run still name it."),
]
Force = Annotated[bool, Parameter(negative="", help="Go on although the model does not know the concept.")]
Preset = Annotated[str, Parameter(help="Named settings of the method: default; siu also has paper and authors-script.")]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="Change a setting of the method: --set steps=30. May be repeated."),
]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lt=2**32), help="Of names, order and LoRA.")]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, ...")]


@app.command
def demo(
    *,
    concept: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="Any concept of `unsee concepts`; a fictitious person if left out. Repeated: all of them at once.",
        ),
    ] = None,
    out: Out = None,
    preset: Preset = "default",
    set_: Set = None,
    seed: Seed = 0,
    require: Require = None,
    redact: Redact = False,
    json_: Json = False,
) -> None:
    """Forget one concept of the embedded benchmark from a single picture, and write a report."""
    from unsee.benchmarks.mini import protocols, request_for
    from unsee.mini.data import mini_data
    from unsee.runs import open_model

    display = Display(json_)
    job = _Job(out or Path("runs/demo"), "siu", preset, set_, seed, require, redact, max(1, len(concept or ())))
    name, *also = concept or [next(c.concept.name for c in mini_data().of("test", "person"))]
    request = request_for(name, also=also)
    with display:
        vlm = open_model("mini", progress=display.assembling)
        # Of each concept to be kept fewer pictures than the experiments show: a newcomer is waiting.
        job.run(vlm, request, protocols(request, utility_pictures=2, neighbour_pictures=2), display)


@app.command
def forget(
    *,
    concept: Annotated[
        str | None, Parameter(help="Name of what is to be forgotten: 'Ada Example', 'France', 'tiger'.")
    ] = None,
    image: Annotated[
        list[Path] | None, Parameter(negative="", help="A picture of it; one is enough, more may follow.")
    ] = None,
    kind: Annotated[
        Kind | None, Parameter(help="What it is, a thing if left out; it chooses the wording of questions.")
    ] = None,
    requests: Annotated[
        Path | None,
        Parameter(
            help="Several at once, in place of the options of these names: a YAML or JSON list of {concept, kind, "
            "image, alias, test_images, protect, facts, new_answer}."
        ),
    ] = None,
    model: Model = "mini",
    alias: Annotated[list[str] | None, Parameter(negative="", help="Another name that counts as naming it.")] = None,
    test_images: Annotated[Path | None, Parameter(help="Folder of other pictures of it, to measure on.")] = None,
    protected_images: Annotated[
        Path | None, Parameter(help="Folder of pictures of anything else: half hold recognition, half measure it.")
    ] = None,
    protect: Annotated[
        list[str] | None, Parameter(negative="", help="A concept of the same kind to hold on to in text.")
    ] = None,
    facts: Annotated[Path | None, Parameter(help="JSON list of {question, answer} about it that stay true.")] = None,
    facets: Annotated[
        Path | None,
        Parameter(
            help="Samples to train on instead of building them: facets.json of a run, or the SIU authors' format. With "
            "--method retrain: all of the training data."
        ),
    ] = None,
    new_answer: Annotated[
        str | None, Parameter(help="How to call it from now on: a name, or 'invented', 'unknown', 'describe'.")
    ] = None,
    method: Annotated[str, Parameter(help="See `unsee methods`; with --help: what the method can be told.")] = "siu",
    preset: Preset = "default",
    set_: Set = None,
    seed: Seed = 0,
    out: Out = None,
    require: Require = None,
    redact: Redact = False,
    force: Force = False,
    device: Device = "cpu",
    json_: Json = False,
) -> None:
    """Forget a concept from one picture, on any supported model.

    Example: `unsee forget --model mini --concept France --kind flag --image flag.png --out runs/france`
    """
    from unsee.benchmarks.own import gather, protocols
    from unsee.data import load_folder
    from unsee.data.requests_file import written
    from unsee.runs import open_model

    display = Display(json_)
    options = {"concept": concept, "image": image, "kind": kind, "alias": alias, "test_images": test_images,
               "protect": protect, "facts": facts, "new_answer": new_answer}  # fmt: skip
    said = written(requests, {name: value for name, value in options.items() if value is not None})
    name = requests.stem if requests else said[0].concept.name
    job = _Job(out or Path("runs") / _folder_name(name), method, preset, set_, seed, require, redact, len(said))
    job.method.check_data(facets is not None)
    problems: list[str] = []
    concepts = [one.concept for one in said]
    shipped = 2 * job.method.protected_pictures  # half of them measure
    if protected_images:
        others = [[p] for p in load_folder(protected_images, problems)]
    else:
        others = _shipped_pictures(concepts, shipped)
    request, tested, measured = gather(said, others, seed, problems)
    given = _samples(facets, request, seed) if facets else None
    for line in problems:
        display.warn(line)
    with display:
        vlm = open_model(model, device, progress=display.assembling)
        asked = protocols(vlm, request, tested, measured, seed)
        job.run(vlm, request, asked, display, samples=given, force=force,
                test_pictures="folder" if said[0].test_images else "augmented")  # fmt: skip


class _Job:
    """What `demo` and `forget` share. Made before anything heavy begins: what can be refused at once is."""

    def __init__(
        self,
        out: Path,
        method: str,
        preset: str,
        changes: Sequence[str] | None,
        seed: int,
        require: str | None,
        redact: bool,
        concepts: int = 1,
    ):
        from unsee.methods import make_method, read_changes
        from unsee.metrics import parse_requirements
        from unsee.runs import refuse_existing

        self.out, self.seed, self.require, self.redact = out, seed, require, redact
        if require is not None:
            parse_requirements(require)
        self.method: Method[Any] = make_method(method, preset, read_changes(changes or ()), concepts)
        refuse_existing(out)

    def run(self, vlm: VisionLanguageModel, request: Request, asked: Any, display: Display, **more: Any) -> None:
        from unsee.metrics import check
        from unsee.runs import forget

        command = None if self.redact else shlex.join(["unsee", *sys.argv[1:]])
        run = forget(
            vlm, request, self.method, asked, self.out, seed=self.seed, redact=self.redact,
            command=command, progress=display.progress, **more,
        )  # fmt: skip
        outcomes = check(self.require, run.metrics) if self.require is not None else []
        display.finish(run, outcomes)
        missed = [o for o in outcomes if not o.met]
        if missed:
            found = ["nothing" if o.measured is None else f"{o.measured:.2f}" for o in missed]
            said = [f"{o.requirement} (measured {f})" for o, f in zip(missed, found, strict=True)]
            raise RequirementError("the run is finished, but does not reach " + ", ".join(said))


def _folder_name(name: str) -> str:
    """A name as a folder's: letters and digits, joined by hyphens."""
    return re.sub(r"[\W_]+", "-", name.lower())[:60].strip("-") or "run"


def _samples(path: Path, request: Request, seed: int) -> list[Sample]:
    """A whole facets file, in this project's or the authors' format."""
    from unsee.data.authors import read_facets
    from unsee.data.samples_file import load_samples
    from unsee.facets import FacetSettings, shown

    try:
        authors = '"conversations"' in path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnseeError(f"cannot read the facets file {path}: {first_line(error)}") from None
    if authors:
        if request.also:
            raise UnseeError(f"{path}: a facets file in the authors' format is about one concept, not several")
        return read_facets(path, request.concept, picture=request.pictures[0])
    # What a run has written may speak of its variations too; the same seed makes the same.
    return load_samples(path, shown(request, FacetSettings(), seed))


def _shipped_pictures(concepts: Sequence[Concept], count: int) -> list[list[Picture]]:
    """The generic protected pictures that ship with the package, by what they show, which is never to be forgotten."""
    from unsee.mini.data import mini_data

    forgotten = {concept.name.lower() for concept in concepts}
    found: dict[str, dict[Picture, None]] = {}
    for shown, picture in (pair for concept in concepts for pair in mini_data().protecting(concept, count)):
        if shown.name.lower() not in forgotten:
            found.setdefault(shown.name, {})[picture] = None
    return [list(pictures) for pictures in found.values()]


@app.command
def evaluate(run: Path, /, *, json_: Json = False) -> None:
    """Score a finished run again from its recorded answers, and write its report anew."""
    from unsee.report import shown
    from unsee.runs import evaluate

    metrics = evaluate(run)
    Display(json_).scores(run, shown(run), metrics)


@app.command
def report(
    run: Path,
    /,
    *more: Path,
    output: Annotated[
        Path | None,
        Parameter(help="File to write; it must not exist. Left out: of one run its report.html, else comparison.html."),
    ] = None,
    redact: Redact = False,
    json_: Json = False,
) -> None:
    """Write the report of a finished run anew, or one page that compares several.

    With --redact: without the picture and the name; a run that was made so stays so, and so does a comparison with it.

    Args:
        run: A finished run; its report is `report.html` in its folder.
        more: Further ones, to be compared with it in one page.
    """
    from unsee import report as reports
    from unsee.runs import read_finished

    if more:
        path = reports.compare((run, *more), output or Path("comparison.html"), redact)
    else:
        read_finished(run)
        path = reports.write(run, redact, output)
    Display(json_).wrote("report", path)


@app.command
def ask(
    target: str,
    question: str,
    /,
    *,
    image: Annotated[Path | None, Parameter(help="The picture asked about; none: a text question.")] = None,
    device: Device = "cpu",
    json_: Json = False,
) -> None:
    """Ask a RUN (original and unlearned model side by side) or a MODEL.

    Args:
        target: A run's folder, "mini", a model's folder, or a hub name.
        question: What is asked.
    """
    from unsee.data import load_picture
    from unsee.models import Question, answer
    from unsee.runs import is_run, open_model, open_run

    display = Display(json_)
    asked = [Question(question, load_picture(image) if image else None)]
    with display:
        if is_run(target):
            vlm = open_run(Path(target), device, display.assembling)
            with vlm.original():
                original = answer(vlm, asked)[0].text
            said = {"original": original, "unlearned": answer(vlm, asked)[0].text}
        else:
            said = {"answer": answer(open_model(target, device, progress=display.assembling), asked)[0].text}
    display.said(said)


@app.command
def export(
    run: Path,
    /,
    *,
    merged: Annotated[Path, Parameter(help="Folder to write: a whole model that plain transformers loads.")],
    json_: Json = False,
) -> None:
    """Write the unlearned model as one folder, the adapter folded in so that it cannot be taken off."""
    from unsee.runs import export_merged

    display = Display(json_)
    with display:
        folder = export_merged(run, merged, display.assembling)
    display.wrote("model", folder)


@app.command
def methods(*, json_: Json = False) -> None:
    """List the methods: paper, what each moves, and what data it needs.

    What a method can be told: `unsee forget --method NAME --help`
    """
    from unsee.methods import REGISTRY, get_method

    found = [get_method(n) for n in sorted(REGISTRY)]
    rows = [
        {"name": m.name, "paper": m.paper, "moves": m.moves, "data": list(m.data), "presets": list(m.presets)}
        for m in found
    ]
    Display(json_).table("methods", "Methods", rows)


@app.command
def concepts(*, json_: Json = False) -> None:
    """List the concepts of the embedded benchmark."""
    from unsee.mini.data import mini_data

    rows = [
        {"name": c.concept.name, "kind": c.concept.kind, "split": c.split, "named": f"{c.named}/{c.tested}"}
        for c in mini_data().concepts.values()
    ]
    Display(json_).table("concepts", "Concepts of unsee-mini", rows)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point. It never returns: `unsee.exits` says with which codes it ends."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries warn their callers of means nothing to a user
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.exit(ending(lambda: _run(sys.argv[1:] if arguments is None else list(arguments))))


def _run(arguments: list[str]) -> None:
    app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    if arguments[:1] == ["forget"] and {"--help", "-h"} & set(arguments) and (name := _method_of(arguments)):
        from unsee.methods import describe, get_method

        method = get_method(name)
        Display().settings(method, describe(method.settings_class))


def _method_of(arguments: Sequence[str]) -> str | None:
    """The method that a command line names, where it is not run but asked for help."""
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option == "--method":
            return value if equals else next(iter(arguments[i + 1 :]), None)
    return None
