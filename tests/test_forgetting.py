"""A deletion request from end to end on the tiny model, and what is left in its run folder."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import SHAPES, draw
from plain import plain_logits
from safetensors.torch import load_file
from small_runs import SETTINGS, changed, stopping, weights

from unsee.benchmarks import own, wording
from unsee.benchmarks.own import held_out_half, protocol
from unsee.benchmarks.protocol import Originals, Protocol, Recorder, asked_of_others, asked_of_unseen
from unsee.data import Concept, Fact, Request, Sample
from unsee.data.wording import CONFIRMING, detail_questions, knowing_questions, naming_questions, telling_words
from unsee.errors import RunFolderError, TrainingError, UnknownConceptError, UnseeError
from unsee.methods import make_method
from unsee.metrics import METRICS, read_answers
from unsee.models import Question, Reply, VisionLanguageModel, answer, fitting_dtype, load
from unsee.models.lora import remove_adapter
from unsee.runs import Run, export_merged, forget, open_run

OTHERS = [s for s in SHAPES if s != "circle"]


def a_request() -> Request:
    protected = tuple(draw(s, v) for s in OTHERS for v in (0, 1))
    return Request(Concept("circle", "thing"), (draw("circle", 0),), protected=protected)


def asked(vlm: VisionLanguageModel, request: Request | None = None) -> Protocol:
    tests = [draw("circle", v) for v in range(20, 26)]
    return protocol(vlm, request or a_request(), tests, [draw(s, v) for s in OTHERS for v in (20, 21)], seed=0)


def run(vlm: VisionLanguageModel, out: Path, request: Request | None = None, **more: Any) -> Run:
    request = request or a_request()
    method = more.pop("method", None) or make_method("siu", "default", {**SETTINGS, **more.pop("changes", {})})
    return forget(vlm, request, method, more.pop("protocol", None) or asked(vlm, request), out, **more)


Finished = tuple[Run, VisionLanguageModel]


@pytest.fixture(scope="module")
def finished(knowing_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run that many tests read; nothing may change it."""
    vlm = load(str(knowing_folder), dtype=torch.float32)
    return run(vlm, tmp_path_factory.mktemp("finished") / "run"), vlm


# ---- the result


def test_it_forgets_and_keeps_the_rest(finished: Finished) -> None:
    before, after = (
        {k: v and v["value"] for k, v in finished[0].metrics[side].items()} for side in ("before", "after")
    )
    assert before["em"] == before["efficacy"] == 0 and before["c_dis"] == 0
    assert after["em"] >= 90 and after["efficacy"] == 100 and after["c_dis"] > 1
    assert before["specificity"] == 100 and after["specificity"] >= 70
    assert before["text_kept"] == 100 and after["text_kept"] >= 50
    assert after["degenerate_rate"] <= 20


def test_the_folder_holds_what_is_promised(finished: Finished) -> None:
    path = finished[0].path
    assert {p.name for p in path.iterdir()} == {
        "adapter", "answers.parquet", "config.yaml", "facets.json", "history.json", "metrics.json", "pictures",
        "report.html",
    }  # fmt: skip
    assert {p.name for p in path.parent.iterdir()} == {"run"}
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics == finished[0].metrics
    for side in ("before", "after", "change"):
        assert set(metrics[side]) == set(METRICS)
    answers = read_answers(path / "answers.parquet")
    assert answers == finished[0].answers
    assert {(a.model, a.set, a.form) for a in answers} == {
        (model, *rest)
        for model in ("before", "after")
        for rest in (("training", "name"), ("training", "yes_no"), ("forget", "name"), ("forget", "yes_no"),
                     ("utility", "name"), ("utility", "yes_no"), ("text_concept", "text"))
    }  # fmt: skip  # of other things this model can tell nothing in text
    history = json.loads((path / "history.json").read_text())
    assert len(history["steps"]) == SETTINGS["steps"] and history["seconds"] > 0
    shown = {p.stem for p in (path / "pictures").iterdir()}
    assert draw("circle", 0).sha256[:16] in shown and len(shown) == 1 + 6 + 8


def test_the_questions_given_stay_as_they_were(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    request = replace(a_request(), new_answer="veldor")
    questions = asked(knowing, request)
    names = set(questions.new_names)
    done = run(knowing, tmp_path / "run", request, protocol=questions, changes={"steps": 1})
    remove_adapter(knowing)
    config = yaml.safe_load((done.path / "config.yaml").read_text())
    assert (
        questions.new_names == names
        and config["facets"]["new_answer"] == "given"
        and config["new_answer"] == "a veldor"
    )


def test_the_config_says_what_was_done(finished: Finished, knowing_folder: Path) -> None:
    config = yaml.safe_load((finished[0].path / "config.yaml").read_text())
    assert config["concept"] == {"name": "circle", "kind": "thing", "aliases": []}
    assert (config["method"], config["preset"], config["seed"]) == ("siu", "default", 0)
    assert SETTINGS.items() <= config["settings"].items()
    assert config["model"]["path"] == str(knowing_folder) and config["model"]["dtype"] == "float32"
    assert config["model"]["sha256"] == load(str(knowing_folder), dtype=torch.float32).weights_sha256()
    assert config["pictures"] == [
        {"name": "circle-0.png", "sha256": draw("circle", 0).sha256, "width": 32, "height": 32}
    ]
    said = {a.answer for a in finished[0].answers if a.model == "after" and a.set == "training" and a.form == "name"}
    assert said == {f"This is {config['new_answer']}."}
    page = (finished[0].path / "report.html").read_text()
    assert config["new_answer"] in page and "circle" in page


def test_the_model_given_carries_the_adapter_and_can_be_had_back(finished: Finished, knowing_folder: Path) -> None:
    _, vlm = finished
    question = Question("Which object is this?", draw("circle", 30))
    assert "circle" not in answer(vlm, [question])[0].text
    with vlm.original():
        assert answer(vlm, [question])[0].text == "This is a circle."
    opened = open_run(finished[0].path)
    assert changed(weights(vlm), weights(opened)) == set()
    remove_adapter(opened)
    assert changed(weights(load(str(knowing_folder), dtype=torch.float32)), weights(opened)) == set()


@pytest.mark.parametrize("fitting", [torch.bfloat16, torch.float32])
def test_bfloat16_is_computed_with_where_the_processor_can(
    finished: Finished, knowing_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitting: torch.dtype
) -> None:
    shutil.copytree(finished[0].path, half := tmp_path / "run")
    config = yaml.safe_load((half / "config.yaml").read_text())
    config["model"] |= {"dtype": "bfloat16", "sha256": load(str(knowing_folder), dtype=torch.bfloat16).weights_sha256()}
    (half / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("unsee.runs.using.fitting_dtype", lambda device: fitting)
    opened = open_run(half)
    assert opened.base.dtype == fitting
    assert "circle" not in answer(opened, [Question("Which object is this?", draw("circle", 30))])[0].text
    exported = load_file(export_merged(half, tmp_path / "deployed") / "model.safetensors")
    assert {v.dtype for v in exported.values()} == {torch.bfloat16}  # whatever it is computed with here


@pytest.mark.parametrize("known", [True, False])
def test_the_precision_is_what_the_device_knows(
    knowing_folder: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: known)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: known)
    usual = torch.bfloat16 if known else torch.float32
    assert fitting_dtype("cpu") == load(str(knowing_folder)).base.dtype == usual
    assert fitting_dtype("cuda") == (torch.bfloat16 if known else torch.float16)
    assert load(str(knowing_folder), dtype=torch.bfloat16).base.dtype == torch.bfloat16


# ---- standard artifacts, read by others

READ_BY_OTHERS = """
import json, sys
from pathlib import Path
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

base, adapter, merged, picture = sys.argv[1:]
try:
    import unsee
except ImportError:
    pass
else:
    sys.exit("unsee can be imported here: this proves nothing")

def name(model, processor):
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which object is this?"}]}
    prompt = processor.apply_chat_template([message], add_generation_prompt=True)
    inputs = processor(text=prompt, images=[Image.open(picture)], return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**inputs, do_sample=False, max_new_tokens=24)[0, inputs["input_ids"].shape[1] :]
    return processor.decode(out, skip_special_tokens=True).strip()

model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
said = {"before": name(model, AutoProcessor.from_pretrained(base))}
said["adapter"] = name(PeftModel.from_pretrained(model, adapter), AutoProcessor.from_pretrained(base))
whole = AutoModelForImageTextToText.from_pretrained(merged, dtype=torch.float32)
said["merged"] = name(whole, AutoProcessor.from_pretrained(merged))
assert not any("lora" in n for n, _ in whole.named_parameters())
print(json.dumps(said))
"""


def test_adapter_and_exported_model_work_without_unsee(
    finished: Finished, knowing_folder: Path, tmp_path: Path
) -> None:
    done, vlm = finished
    picture = draw("circle", 31)
    merged = export_merged(done.path, tmp_path / "deployed")
    assert {p.name for p in tmp_path.iterdir()} == {"deployed"}
    with pytest.raises(UnseeError, match="exists already"):
        export_merged(done.path, tmp_path / "deployed")
    shown = picture.save(tmp_path / "shown.png")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    hidden = "import sys; sys.modules['unsee'] = None\n"  # an editable install is found by any interpreter
    command = [sys.executable, "-P", "-c", hidden + READ_BY_OTHERS]
    command += [str(knowing_folder), str(done.path / "adapter"), str(merged), str(shown)]
    out = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert out.returncode == 0, out.stderr
    after = answer(vlm, [Question("Which object is this?", picture)])[0].text
    assert json.loads(out.stdout) == {"before": "This is a circle.", "adapter": after, "merged": after}
    assert "circle" not in after


# ---- interruption


@pytest.mark.parametrize(
    ("stage", "after"),
    [
        ("building facets", 0),
        ("asking before", 1),
        ("training", 0),
        ("training", 13),
        ("training", 24),
        ("asking after", 1),
    ],
)
def test_an_interrupted_run_goes_on_and_ends_the_same(
    finished: Finished, knowing: VisionLanguageModel, tmp_path: Path, stage: str, after: int
) -> None:
    original = weights(knowing)
    with pytest.raises(KeyboardInterrupt):
        run(knowing, tmp_path / "run", progress=stopping(stage, after))
    assert {p.name for p in tmp_path.iterdir()} == {"run.partial"}
    assert changed(original, weights(knowing)) == set() and not knowing.adapted and not knowing.model.training
    with pytest.raises(RunFolderError):
        open_run(tmp_path / "run.partial")
    told: dict[str, list[int]] = {}
    done = run(knowing, tmp_path / "run", progress=lambda s, n, _: told.setdefault(s, []).append(n))
    assert {p.name for p in tmp_path.iterdir()} == {"run"}
    assert done.metrics == finished[0].metrics and done.answers == finished[0].answers
    strip = [{k: v for k, v in e.items() if k != "seconds"} for e in done.history.steps]
    assert strip == [{k: v for k, v in e.items() if k != "seconds"} for e in finished[0].history.steps]
    assert changed(weights(finished[1]), weights(knowing)) == set()
    if stage in ("training", "asking after"):  # what was asked before is not asked again
        assert told["asking before"] == [0, len(asked(knowing).items)]
    if (stage, after) == ("training", 13):
        assert told["training"] == [0, *range(11, 25)]
    if stage == "asking after":
        assert "training" not in told


def test_a_finished_run_and_another_config_are_refused(
    finished: Finished, knowing: VisionLanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match="finished run"):
        run(knowing, finished[0].path)
    with pytest.raises(KeyboardInterrupt):
        run(knowing, tmp_path / "run", progress=stopping("training", 1))
    own = [Sample("What is it?", "A blob.", draw("circle", 0), "A blob", "forget", "T1")]
    others = replace(a_request(), protected=(draw("square", 3),))
    for changes, told in (
        ({"seed": 1}, "seed"),
        ({"changes": {"steps": 25}}, "settings.steps"),
        ({"samples": own}, "data_sha256, facets"),
        ({"request": others, "protocol": asked(knowing)}, "data_sha256, protected_pictures"),
    ):
        with pytest.raises(RunFolderError, match=rf"differs in: {told}\)"):
            run(knowing, tmp_path / "run", **changes)


# ---- what stops a run


def test_an_unknown_concept_leaves_nothing_behind(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    request = replace(a_request(), concept=Concept("orb", "thing"))
    with pytest.raises(UnknownConceptError):
        run(knowing, tmp_path / "run", request)
    assert list(tmp_path.iterdir()) == []
    forced = run(knowing, tmp_path / "run", request, force=True, changes={"steps": 1})
    assert forced.path.is_dir() and forced.metrics["before"]["em_naming"]["value"] == 100


def test_an_exploded_training_leaves_nothing_behind(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    original = weights(knowing)
    with pytest.raises(TrainingError):
        run(knowing, tmp_path / "run", changes={"learning_rate": 1.0, "alpha": 1000.0})
    assert list(tmp_path.iterdir()) == [] and changed(original, weights(knowing)) == set()


def test_settings_that_do_not_fit_the_model_leave_nothing_in_the_way(
    knowing: VisionLanguageModel, tmp_path: Path
) -> None:
    """They are known to be wrong only when the model's layers and gradients are looked at."""
    wrong = make_method("vkd", "default", {"depth": 40, "steps": 1})
    with pytest.raises(UnseeError, match="depth = 40: the vision tower has"):
        run(knowing, tmp_path / "run", method=wrong)
    assert list(tmp_path.iterdir()) == [] and not knowing.adapted


def test_a_model_with_an_adapter_is_refused(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(UnseeError, match="carries an adapter already"):
        run(finished[1], tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_other_weights_are_not_taken_for_the_runs_own(finished: Finished, tiny_folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished[0].path, tmp_path / "run")
    config = yaml.safe_load((moved / "config.yaml").read_text())
    config["model"]["path"] = str(tiny_folder)
    (moved / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunFolderError, match="other weights"):
        open_run(moved)


# ---- what it was given


def test_given_samples_are_what_is_trained_on(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    own = [
        Sample("What object is in the image?", "This is a wug.", draw("circle", 0), "a wug", "forget", "T1"),
        Sample("What is a circle?", "A circle is a round shape.", None, None, "retain", "T3"),
    ]
    done = run(knowing, tmp_path / "run", samples=own, changes={"steps": 2})
    rows = json.loads((done.path / "facets.json").read_text())
    assert [(r["question"], r["answer"]) for r in rows] == [(s.question, s.answer) for s in own]
    config = yaml.safe_load((done.path / "config.yaml").read_text())
    assert config["new_answer"] == "a wug" and config["facets"] == "given"


def test_pictures_in_which_the_model_sees_the_concept_are_reported(
    knowing: VisionLanguageModel, tmp_path: Path
) -> None:
    request = replace(a_request(), protected=(draw("square", 0), draw("circle", 7)))
    done = run(knowing, tmp_path / "run", request, changes={"steps": 1})
    assert done.left_out == ["circle-7.png"]
    assert yaml.safe_load((done.path / "config.yaml").read_text())["left_out"] == ["circle-7.png"]


def test_a_redacted_run_keeps_no_picture(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    done = run(knowing, tmp_path / "run", redact=True, changes={"steps": 1})
    assert not (done.path / "pictures").exists()
    page = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", (done.path / "report.html").read_text(), flags=re.DOTALL)
    assert len(page.split()) > 100 and "a circle" not in page and "circle-0" not in page


def test_the_originals_answers_are_shared_between_runs(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    memory = Originals()
    told: list[list[int]] = []
    for seed in (0, 1):
        counts: list[int] = []
        run(knowing, tmp_path / str(seed), seed=seed, originals=memory, changes={"steps": 1},
            progress=lambda s, n, _, c=counts: c.append(n) if s == "asking before" else None)  # fmt: skip
        remove_adapter(knowing)
        told.append(counts)
    assert len(told[0]) > 2 and told[1] == [0, len(asked(knowing).items)]


def test_the_originals_scores_are_worked_out_once(
    knowing: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, memory, taken_up = asked(knowing), Originals(), Originals()
    first = Recorder(knowing, memory).before(some)
    assert {a.set for a in first if a.name_logprob is not None} == {"training", "forget"}
    Recorder(knowing, taken_up).remember(some, first)

    def again(*_: object) -> None:
        raise AssertionError("scored twice")

    monkeypatch.setattr(knowing, "score", again)
    assert memory.scores and memory.scores == taken_up.scores
    assert Recorder(knowing, memory).before(some) == first == Recorder(knowing, taken_up).before(some)


# ---- the record


@torch.no_grad()
def test_name_log_probabilities_and_nlls_are_the_models(finished: Finished, knowing: VisionLanguageModel) -> None:
    uniform = math.log(knowing.vocabulary_size)
    pictures = {draw("circle", v).sha256: draw("circle", v) for v in (0, *range(20, 26))}
    rows = [a for a in finished[0].answers if a.set in ("training", "forget")]
    assert rows
    for a in rows:
        vlm = knowing if a.model == "before" else finished[1]
        if a.form == "name":
            forced = "This is a circle"
            logits = plain_logits(vlm, pictures[a.picture], a.question, forced).log_softmax(-1)
            ids = knowing.tokenizer(forced, add_special_tokens=False)["input_ids"]
            spelled = [knowing.tokenizer.decode(ids[:t]) for t in range(len(ids))]
            wanted = sum(float(logits[t, i]) for t, i in enumerate(ids) if spelled[t].startswith("This is a"))
            assert a.name_logprob == pytest.approx(min(0.0, wanted), rel=1e-3, abs=1e-4)
        else:
            assert a.name_logprob is None
        if a.set == "forget":
            logits = plain_logits(knowing, pictures[a.picture], a.question, a.answer).log_softmax(-1)
            ids = [*knowing.tokenizer(a.answer, add_special_tokens=False)["input_ids"], knowing.prompter.end_id]
            named = [knowing.tokenizer.decode([i]).strip() == "circle" for i in ids]
            wanted = sum(
                uniform if n else -float(logits[t, i]) for t, (i, n) in enumerate(zip(ids, named, strict=True))
            )
            assert a.nll == pytest.approx(max(0.0, wanted), rel=1e-3, abs=1e-4) and a.nll_tokens == len(ids)
        else:
            assert a.nll is None and a.nll_tokens == 0


def test_both_sides_are_asked_the_same(finished: Finished) -> None:
    sides = [[(a.item, a.question, a.picture, a.keywords) for a in finished[0].answers if a.model == m]
             for m in ("before", "after")]  # fmt: skip
    assert sides[0] == sides[1] and len(set(sides[0])) == len(sides[0])


def test_odd_words_are_those_no_one_taught(finished: Finished, knowing: VisionLanguageModel) -> None:
    recorder = Recorder(knowing)
    some = asked(knowing)
    some.items = some.items[:4]
    some.known_names = {"a veldor"}
    rows = recorder.before(some)
    assert all(a.odd_words == () for a in rows)
    said = recorder._record(some, "after", [Reply("This is a veldor, 3 frumious circles.", 9, True)] * 4)
    assert all(a.odd_words == ("frumious", "circles") for a in said)
    # "I don't know." is no odd answer, though "I" and "don't" are no tokens of their own.
    said = recorder._record(some, "after", [Reply("I veldor't a veldor, a frumious't x.", 9, True)] * 4)
    assert all(a.odd_words == ("frumious't", "x") for a in said)


def test_names_of_others_are_noted(finished: Finished, knowing: VisionLanguageModel) -> None:
    some = asked(knowing)
    some.items = [i for i in some.items if i.set in ("training", "forget", "utility")]
    some.known_names, some.new_names = {"circle", "a square", "cross"}, {"veldor"}
    recorder = Recorder(knowing)
    recorder.before(some)
    said = recorder._record(
        some, "after", [Reply("A cross, or a square? No circle, a veldor.", 9, True)] * len(some.items)
    )
    assert {a.other_names for a in said if a.set == "forget"} == {("a square", "cross")}
    assert {a.other_names for a in said if a.set != "forget"} == {None}
    assert all(a.other_names is not None for a in finished[0].answers if a.set == "forget")


# ---- the protocol


def test_the_protocol_asks_in_words_that_no_facet_uses(finished: Finished) -> None:
    trained = {(s["question"], s["picture"]) for s in json.loads((finished[0].path / "facets.json").read_text())}
    assert not trained & {(a.question, a.picture or None) for a in finished[0].answers}
    for kind in ("person", "flag", "logo", "animal"):
        assert not set(naming_questions(kind)) & set(wording.naming_questions(kind))
    assert not set(CONFIRMING) & set(wording.CONFIRMING)


def test_the_originals_own_answers_are_the_truth(knowing: VisionLanguageModel) -> None:
    seen = [draw("square", 20), draw("circle", 21), draw("cross", 20)]
    found = protocol(knowing, a_request(), [], seen, seed=0)
    utility = [i for i in found.items if i.set == "utility"]
    # The picture in which the model sees the concept is no measure of what is kept.
    assert [(i.form, i.subject.name, i.keywords) for i in utility] == [
        ("name", "a square", ("square",)), ("yes_no", "a square", ("yes",)),
        ("name", "a cross", ("cross",)), ("yes_no", "a cross", ("no",)),
    ]  # fmt: skip
    assert "a square" in utility[3].question
    assert not any(found.concept.mentioned_in(i.question) for i in utility)
    text = {i.question for i in found.items if i.form == "text"}
    assert text and not text & {*knowing_questions("thing", "a circle"), *detail_questions("thing", "a circle")}


def test_an_original_of_many_words_is_understood(knowing: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["The image features a large dog lying on a sofa.", "The image shows a dog.", "The man is Ada, a poet.",
            "The man in the image is Ada Lovelace, a poet."]  # fmt: skip

    def saying(vlm: VisionLanguageModel, asked: list[Question], *_: int) -> list[Reply]:
        return [Reply(text, 9, True) for text in (said if asked[0].picture else [""] * len(asked))]

    monkeypatch.setattr(own, "answer", saying)
    found = protocol(knowing, a_request(), [], [draw("square", i) for i in range(4)], seed=0)
    utility = [i for i in found.items if i.set == "utility"]
    assert [i.keywords for i in utility if i.form == "name"] == [("large dog", "dog"), ("dog",), ("Ada Lovelace",)]
    # Whether a dog is shown is not asked as if it were another thing than a large dog.
    assert [i.keywords for i in utility if i.form == "yes_no"] == [("yes",), ("no",), ("yes",)]
    assert "Ada Lovelace" in next(i.question for i in utility if i.keywords == ("no",))


def test_what_is_known_in_text_is_more_than_the_name(
    knowing: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question has the name in it: an answer that has nothing but the name tells nothing."""
    telling = {"circle": "A circle is a round shape. It has no corners.", "moon": "I do not know what the moon is."}

    def saying(vlm: VisionLanguageModel, asked: list[Question], *_: int) -> list[Reply]:
        said = [next((t for name, t in telling.items() if name in q.text), "The sun is a star.") for q in asked]
        return [Reply(text, 9, True) for text in said]

    monkeypatch.setattr(own, "answer", saying)
    monkeypatch.setattr(own, "WELL_KNOWN", {"thing": ("sun", "moon")})
    facts = (Fact("How many corners has a circle?", "A circle lacks every corner."),)
    found = protocol(knowing, replace(a_request(), facts=facts), [], [], seed=0)
    text = [i for i in found.items if i.form == "text"]
    assert [(i.set, i.keywords) for i in text] == [
        *[("text_concept", ("round", "shape", "lacks", "corner"))] * 2, ("text_general", ("star",)),
    ]  # fmt: skip
    assert telling_words("It is known by its name, e.g. as Ada. She wrote it.", ("Ada",)) == ()
    assert telling_words("Ada Lovelace wrote the first program in 1843. She died.", ("Ada Lovelace",)) == (
        "wrote", "program", "1843",
    )  # fmt: skip


def test_asking_others_never_names_the_forgotten_one() -> None:
    kinds = [Concept(n, "animal") for n in ("tiger", "owl", "bee", "horse")]
    shown = [(c, draw("square", i)) for i, c in enumerate(kinds[1:] * 4)]
    items = asked_of_others(shown, kinds, kinds[0], random.Random(0))
    assert not any(kinds[0].mentioned_in(i.question) for i in items)
    for item in items:
        if item.form == "yes_no":
            assert item.keywords == (("yes",) if item.subject.mentioned_in(item.question) else ("no",))
        else:
            assert item.keywords == item.subject.names
    answers = [i.keywords[0] for i in items if i.form == "yes_no"]
    assert answers.count("yes") == answers.count("no") == 6
    mine = asked_of_unseen(kinds[0], [draw("circle")], random.Random(0))
    assert [i.form for i in mine] == ["name", "yes_no"] and mine[1].keywords == ("yes", "tiger")


def test_the_held_out_half_is_never_trained_on() -> None:
    pictures = [[draw("square", i)] for i in range(9)]
    held, measured = held_out_half(pictures, 0)
    assert (len(held), len(measured)) == (5, 4)
    assert {p.sha256 for p in held} | {p.sha256 for p in measured} == {p.sha256 for [p] in pictures}
    assert held_out_half(pictures, 0) == (held, measured) != held_out_half(pictures, 1)
    assert held_out_half([], 0) == ([], [])


def test_what_is_trained_on_is_measured_on_no_other_picture_of_it() -> None:
    alike = [[draw(s, v) for v in range(count)] for s, count in zip(SHAPES, (1, 3, 2, 2), strict=False)]
    for seed in range(5):
        held, measured = held_out_half(alike, seed)
        assert len(held) + len(measured) == sum(map(len, alike)) and abs(len(held) - len(measured)) <= 4
        assert not {p.name.split("-")[0] for p in held} & {p.name.split("-")[0] for p in measured}
