"""The files of --json: every command's output fits the schema, and the schema refuses other content."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")
need("jsonschema")

import copy
import json
from typing import Any, get_args

import pytest
import torch
import typer
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from typer.testing import CliRunner

from benchmarks import options, shapes
from benchmarks.cli import app as benchmark_app
from crosscheck.commands import cli
from crosscheck.core.finding import FLOAT32, FLOAT64, Check, Finding, Kind, Outcome, Reason
from crosscheck.core.judge import LINEARITY, LOSS_SCALED
from crosscheck.core.norms import NORMS
from crosscheck.core.slices import OUTLIERS, TIME, WHOLE
from crosscheck.core.verdict import Verdict
from crosscheck.faults.catalogue import FAULTS
from crosscheck.libraries import OTHER_LIBRARIES
from crosscheck.libraries.implementation import Implementation
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.lstm.gates import GATE, ROW
from crosscheck.lstm.teacher_forcing import SIZES
from crosscheck.report import case_report, model_score_report, score_report
from crosscheck.report.json import SCHEMA_VERSION, Command, read_json, write_json
from crosscheck.studies.checkpoint import networks
from crosscheck.studies.gradient_flow import study, training
from crosscheck.studies.gradient_flow.network import study_networks
from crosscheck.studies.notebook import examination
from crosscheck.studies.training.lockstep import TRAINING_STEP, single_step
from crosscheck.studies.training.optimizers import OPTIMIZERS
from crosscheck.suite import mutants
from crosscheck.suite import mutation_score as score
from crosscheck.suite.model_score import Fate, Grade, ModelScore, ModelTrial, Trials
from crosscheck.suite.runs import CaseResult
from tests import ROOT
from tests.crosscheck.suite.test_mutation_score import ALARM, SURVIVOR, task_result
from tests.support import wrong_ports
from tests.support.json_page import SCHEMA
from tests.support.small_models import make_small

WHOLE_SCHEMA = json.loads(SCHEMA.read_text(encoding="utf-8"))
DEFINITIONS = WHOLE_SCHEMA["$defs"]
CASE = RecurrentCase("small", "", 2, 3, 4, 5, bidirectional=True)
ALLOWED = Draft202012Validator(WHOLE_SCHEMA)
RUNS = {
    "suite": "--case small --against torch_ref,wrong --jobs 1",
    "bench": "--shape 2,1,2,3 --runs 2 --seconds 60 --only jax_lstm --only torch.nn.LSTM --only jax.experimental.rnn",
    "checkpoint": "{tmp}/model.pt",
    "faults": "--quick --jobs 1",
    "faults --models": "--quick --jobs 1",
    "gradient-flow": "--length 20 --hidden 4 --train-steps 2 --jobs 1",
    "gradients": "--length 2 --hidden 2",
    "matrix": "--only torch.nn.LSTM,equinox --jobs 1",
    "notebook": "",
    "train": "--steps 2 --hidden 2 --batch 2 --length 4 --text {tmp}/text.txt",
}
OPTIONAL = {"keras", "dm-haiku", "equinox", "onnxruntime", "float64", "float32"}  # keys that may be left out


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Run a command at its smallest setting, once, and return its file and content."""
    folder, found = tmp_path_factory.mktemp("json"), {}
    torch.save({"a": torch.nn.LSTM(3, 4).state_dict(), "b": torch.nn.GRU(3, 4).state_dict()}, folder / "model.pt")
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog, " * 40)

    def run(command):
        if command not in found:
            file = folder / f"{command}.json"
            name = [] if command in ("suite", "bench") else command.split()
            app = benchmark_app if command == "bench" else cli.app
            words = RUNS[command].format(tmp=folder).split()
            with pytest.MonkeyPatch.context() as patch:
                _make_small(patch)
                done = CliRunner().invoke(app, [*name, *words, "--json", str(file)])
            assert done.exit_code == (command == "suite"), done.output
            found[command] = file, json.loads(file.read_text())
        return found[command]

    return run


def _make_small(patch):
    """Use one small case, one wrong implementation, four faults and a short training."""
    patch.setitem(CASES, "small", CASE)
    patch.setattr("crosscheck.commands.matrix.matrix_cases", lambda: {"small": CASE})
    patch.setitem(OTHER_LIBRARIES, "wrong", Implementation("wrong", wrong_ports.STANDARD["gate order"].runner))
    plain = RecurrentCase("plain", "", 3, 6, 4, 5, num_layers=2)
    few = {name: FAULTS[name] for name in ("gate-order-igfo", "clip-high", "dW_hh-one-NaN", "float32-leak")}
    broken = {"empty-zip": mutants.MUTANTS["empty-zip"]}
    for module in ("crosscheck.suite.mutation_score", "crosscheck.report.score_report"):
        patch.setattr(f"{module}.fixed_cases", lambda quick: (plain,))
        patch.setattr(f"{module}.FAULTS", few)
        patch.setattr(f"{module}.MUTANTS", broken)
    patch.setattr(mutants, "FAULTS", few, raising=False)
    patch.setattr(score, "RANDOM", {True: 1, False: 1})
    patch.setattr(training, "LAG", 20)
    patch.setattr(training, "HIDDEN", 4)
    patch.setattr(study, "TRAINED", (training.Trainee("RNN tanh", "RNN tanh", "rnn"),))
    patch.setattr(study, "study_networks", lambda *sizes: study_networks(*sizes)[::4])  # an RNN and an LSTM
    make_small(patch)


def why_not(content) -> str:
    """Return why the schema refuses the content, or "" if it accepts it."""
    error = best_match(ALLOWED.iter_errors(content))
    return "" if error is None else f"{error.json_path}: {error.message}"


def test_the_schema_is_one():
    Draft202012Validator.check_schema(WHOLE_SCHEMA)
    assert DEFINITIONS["schema_version"]["const"] == SCHEMA_VERSION


def test_every_command_with_the_option_is_one_that_is_checked_here():
    group = typer.main.get_command(cli.app)
    having = {name for name, command in group.commands.items() if any("--json" in p.opts for p in command.params)}
    branches = [branch["$ref"].rpartition("/")[2] for branch in WHOLE_SCHEMA["oneOf"]]
    assert having | {"suite", "bench", "faults --models"} == set(RUNS) == set(get_args(Command)) == set(branches)
    assert [DEFINITIONS[name]["properties"]["command"]["const"] for name in branches] == branches


@pytest.mark.parametrize("command", RUNS)
def test_a_commands_output_is_as_documented(command, output):
    file, content = output(command)
    assert why_not(content) == ""
    assert list(content.items())[:2] == [("schema_version", 1), ("command", command)]
    assert read_json(file, command) == content


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda file: file.stem)
def test_the_committed_results_are_as_documented(file):
    assert why_not(read_json(file, "bench")) == ""


@pytest.fixture(scope="module")
def bad_score():
    """Return what `crosscheck faults` writes if a fault survives and a right implementation is not accepted."""
    found = task_result(ALARM, SURVIVOR)
    return {"schema_version": 1, "command": "faults"} | score_report.to_json(score.Score([found]), True, 1.0)


@pytest.fixture(scope="module")
def bad_models():
    """Return what `crosscheck faults --models` writes if a right problem is not accepted and a mistake survives."""
    alarm, survivor = ModelTrial("dense", 3, Grade.ERROR, "an error"), ModelTrial("dense-bias", 0, Grade.AGREE)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        content = model_score_report.to_json(ModelScore([Trials((alarm,), (survivor,))]), 1.0)
    return {"schema_version": 1, "command": "faults --models"} | content


@pytest.mark.parametrize("command", RUNS)
def test_every_key_is_needed_and_no_other_is_allowed(command, output):
    assert_closed(output(command)[1], command)


def test_every_key_of_a_bad_score_is_needed_and_no_other_is_allowed(bad_score):
    assert (bad_score["ok"], len(bad_score["survivors"]), len(bad_score["false_alarms"])) == (False, 1, 1)
    assert_closed(bad_score, "faults")


def test_every_key_of_a_bad_score_over_models_is_needed_and_no_other_is_allowed(bad_models):
    assert (bad_models["ok"], bad_models["survivors"], len(bad_models["not_agreeing"])) == (False, ["dense-bias"], 1)
    assert_closed(bad_models, "faults --models")


def test_these_outputs_have_every_key_of_the_schema(output, bad_score, bad_models):
    contents = [(name, output(name)[1]) for name in RUNS] + [("faults", bad_score), ("faults --models", bad_models)]
    met = {id(schema) for name, content in contents for _, schema in _objects(_shortened(content), DEFINITIONS[name])}
    assert [name for name, found in DEFINITIONS.items() if "properties" in found and id(found) not in met] == []


def assert_closed(content, command):
    """Assert that the schema refuses the content if any key is dropped, replaced or added."""
    content = _shortened(copy.deepcopy(content))
    assert why_not(content) == ""
    tried = 0
    for value, schema in _objects(content, DEFINITIONS[command]):
        kept = dict(value)
        for key in schema.get("properties", ()):
            for changed in ({"no such key": None}, None):
                if changed is None:
                    value.pop(key, None)
                else:
                    value[key] = changed
                may_be_left_out = changed is None and key in OPTIONAL and key not in schema["required"]
                assert ALLOWED.is_valid(content) == may_be_left_out, (command, schema.get("title"), key, changed)
                value.clear()
                value.update(kept)
                tried += 1
        value["no such key"] = None
        assert not ALLOWED.is_valid(content), (command, schema.get("title"))
        del value["no such key"]
    assert tried > 2 * len(content)


def _shortened(value: Any) -> Any:
    """Keep the last object of each list, or two items of a list without objects."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(value[-1])] if value and isinstance(value[-1], dict) else value[:2]
    return value


def _objects(value, schema, seen=None):
    """Yield every object in ``value`` with its schema, one of each kind."""
    seen = set() if seen is None else seen
    if "$ref" in schema:
        schema = DEFINITIONS[schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", ()):
        if Draft202012Validator({**choice, "$defs": DEFINITIONS}).is_valid(value):
            yield from _objects(value, choice, seen)
    if isinstance(value, dict) and id(schema) not in seen:
        seen.add(id(schema))
        yield value, schema
        for key, item in list(value.items()):
            yield from _objects(item, schema.get("properties", {}).get(key, schema["additionalProperties"]), seen)
    if isinstance(value, list):
        for item in value if "items" in schema else ():
            yield from _objects(item, schema["items"], seen)


def _schemas(schema):
    yield schema
    for inner in schema.values() if isinstance(schema, dict) else ():
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, dict):
                yield from _schemas(each)


def test_every_key_and_word_has_a_description_and_every_object_is_closed():
    described = 0
    for name, definition in DEFINITIONS.items():
        assert {"title", "description"} <= definition.keys(), name
        assert all(choice["description"].endswith(".") for choice in definition.get("oneOf", ())), name
        for key, found in definition.get("properties", {}).items():
            assert found["description"].endswith("."), (name, key)
            described += 1
        for schema in _schemas(definition):
            if schema.get("type") == "object":
                assert "additionalProperties" in schema, name
                assert "properties" not in schema or schema["additionalProperties"] is False, name
                left_out = schema.get("properties", {}).keys() - set(schema.get("required", ()))
                assert left_out <= OPTIONAL, (name, left_out)
    assert described > 200


def words(name, key=None):
    """Return the words that the schema allows for a definition, or for one of its keys."""
    found = DEFINITIONS[name] if key is None else DEFINITIONS[name]["properties"][key]
    return [choice["const"] for choice in found["oneOf"]] if "oneOf" in found else found["enum"]


def test_words_are_the_codes():
    assert words("outcome") == list(Outcome)
    assert words("reason") == list(Reason)
    assert words("norm") == [*NORMS, ""]
    assert words("model_outcome") == list(Grade)
    assert words("model_mistake", "fate") == list(Fate)
    assert set(words("scope")) == set(map(str, (WHOLE, OUTLIERS, TIME, TRAINING_STEP, GATE, ROW)))
    forced = [Check(check.dtype, Kind.TEACHER_FORCED, n) for check in (FLOAT64, FLOAT32) for n in SIZES]
    single = [single_step(check.dtype) for check in (FLOAT64, FLOAT32)]
    others = [
        Check("float64", Kind.DAMPED),
        Check(None, Kind.INPUTS),
        Check(None, Kind.TYPES),
        Check(None, Kind.FAILED),
    ]
    checks = [FLOAT64, FLOAT32, LINEARITY, LOSS_SCALED, *forced, *single, *others]
    assert {check.kind for check in checks} == set(Kind)
    assert set(words("check")) == set(map(str, checks))
    assert words("bench", "sweep") == ["", *shapes.SWEEPS]
    assert words("bench_row", "kind") == list(options.KINDS)
    assert words("bench_row", "feature") == list(options.FEATURES)
    assert words("precision") == list(get_args(options.Precision))
    assert words("training_options", "optimizer") == list(OPTIMIZERS)
    assert DEFINITIONS["notebook_class"]["properties"]["unused"]["items"]["enum"] == list(examination.LAYERS)
    torchs = {f"{kind}{end}" for kind in networks._GATES.values() for end in ("", "Cell")}
    assert set(words("checkpoint_skipped", "kind")) == torchs | {"optimizer state", "unknown"}
    assert {other.package for other in OTHER_LIBRARIES.values()} <= DEFINITIONS["environment"]["properties"].keys()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_a_string(number, tmp_path, output):
    at = {"index": (1, 2), "got": number, "expected": 0.5, "first_step": 3, "norm": abs(number)}
    finding = Finding("y", FLOAT64, Outcome.DISAGREE, None, None, reason=Reason.NOT_FINITE, **at)
    result = CaseResult("a", "b", Outcome.AGREE, Verdict((finding,)), 0.1234567, "crosscheck --case a")
    settings = output("notebook")[1]["environment"]
    write_json(tmp_path / "out.json", "suite", case_report.to_json([[result]], settings) | {"without": []})
    content = read_json(tmp_path / "out.json", "suite")
    assert why_not(content) == ""
    (shown,) = content["cases"][0]["findings"]
    assert shown["got"] == str(number)
    assert repr(float(shown["got"])) == repr(number)
    assert (shown["index"], shown["check"], shown["reason"], shown["ok"]) == ([1, 2], "float64", "not finite", False)
    assert why_not(content | {"verdict": "nan"})
