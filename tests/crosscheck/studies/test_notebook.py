"""The notebook's class as a black box, with both departures, with only one, and with one that nothing explains."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import torch_ref
from crosscheck.commands import cli
from crosscheck.commands import notebook as command
from crosscheck.studies.notebook.examination import FEATURES, HIDDEN, examine_notebook, notebook_classes

BOTH_FOUND = "both departures of the published class found, and none in the corrected one"


class Variant(torch_ref.NotebookLSTM):
    """The notebook's class with chosen departures. It never reads ``as_published``."""

    def __init__(self, layers=("f", "i", "c_", "o"), collected="h", cell_output=torch.tanh):
        super().__init__(FEATURES, HIDDEN)
        del self.as_published
        self.layers, self.collected, self.cell_output = layers, collected, cell_output

    def forward(self, x, h, c):
        states = []
        for x_t in x.unbind(1):
            f, i, g, o = (getattr(self, layer)(torch.cat((x_t, h), dim=1)) for layer in self.layers)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * self.cell_output(c)
            states.append({"h": h, "c": c, "o": torch.sigmoid(o)}[self.collected])
        return torch.stack(states, dim=1), (h, c)


@pytest.fixture
def run(monkeypatch):
    def run(published=None, corrected=None, *arguments):
        classes = notebook_classes()
        monkeypatch.setattr(command, "notebook_classes", lambda: (published or classes[0], corrected or classes[1]))
        return CliRunner().invoke(cli.app, ["notebook", *arguments])

    return run


def test_both_departures_are_named(run, tmp_path):
    file = tmp_path / "out.json"
    done = run(None, None, "--json", str(file))
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert (
        "(1) all four gates use the forget gate's weights (layer f); every gradient by i, c_, o is exactly zero"
        in words
    )
    assert "(2) the collected hidden states are the cell states c_t, not h_t" in words
    assert "the corrected class follows the equations" in words
    assert "agrees with jax_lstm.lstm" in words
    assert "agrees with torch.nn.LSTM" in words
    assert done.stdout.splitlines()[-1] == BOTH_FOUND
    content = json.loads(file.read_text())
    assert content["ok"] is True
    gates = content["published"]["gates"]
    assert gates["found"] == "f f f f"
    assert gates["error"] < 1e-14
    assert gates["runner_up_error"] > 0.1
    assert gates["equations_error"] > 0.1
    assert content["published"]["unused"] == ["i", "c_", "o"]
    assert len(content["published"]["departures"]) == 2
    assert content["corrected"]["departures"] == content["corrected"]["unused"] == []
    assert [a["ok"] for a in content["agreements"]] == [True, True]


def test_twice_the_same(run, tmp_path):
    outputs = [run(None, None, "--json", str(tmp_path / name)).stdout for name in ("a", "b")]
    assert outputs[0] == outputs[1]
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


def test_a_copy_without_the_flag_is_found_out_alike():
    """The study finds the departures in the behaviour of the class. This copy has no attribute that names them."""
    both = Variant(layers="ffff", collected="c")
    assert examine_notebook(both, Variant()).ok


@pytest.mark.parametrize(
    ("variant", "words", "others"),
    [
        ({"layers": "ffff"}, "all four gates use the forget gate's weights", "cell states"),
        ({"collected": "c"}, "the collected hidden states are the cell states c_t", "gates use"),
        (
            {"layers": ("f", "i", "c_", "i")},
            "the output gate uses layer i, not o; every gradient by o is",
            "cell states",
        ),
        ({"layers": ("i", "f", "c_", "o")}, "the forget gate uses layer i, not f, the input gate uses", "gradient"),
    ],
)
def test_a_single_departure_is_named_and_is_not_both(run, variant, words, others):
    done = run(Variant(**variant))
    assert done.exit_code == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("the published class departs"))
    assert words in line
    assert others not in line
    assert done.stdout.splitlines()[-1].startswith("not as expected")


@pytest.mark.parametrize(
    ("variant", "question"),
    [({"cell_output": lambda c: c}, "the states h and c"), ({"collected": "o"}, "the collected hidden states")],
)
def test_another_departure_has_no_explanation(run, variant, question):
    done = run(Variant(layers="ffff", **{"collected": "c"} | variant))
    assert done.exit_code == 1
    assert f"the published class: no explanation fits {question}; the nearest, " in done.stdout
    assert "none (nearest " in done.stdout
    assert BOTH_FOUND not in done.stdout


def test_a_departure_in_the_corrected_class(run):
    done = run(None, Variant(collected="c"))
    assert done.exit_code == 1
    assert "the corrected class departs from the equations: (1) the collected hidden states" in done.stdout
    assert "the corrected class does not agree with torch.nn.LSTM" in done.stdout


def test_a_corrected_class_that_departs_only_from_the_names(run):
    """It computes the LSTM of its own state dict, but not with the layers that the equations name."""

    class Renamed(Variant):
        def lstm_state_dict(self):
            self.i, self.f = self.f, self.i
            try:
                return super().lstm_state_dict()
            finally:
                self.i, self.f = self.f, self.i

    done = run(None, Renamed(layers=("i", "f", "c_", "o")))
    assert done.exit_code == 1
    assert "the corrected class agrees with torch.nn.LSTM" in done.stdout
    assert "the corrected class departs from the equations: (1) the forget gate uses layer i, not f" in done.stdout


def test_a_corrected_class_with_wrong_weights_for_others(run):
    class Doubled(Variant):
        def lstm_state_dict(self):
            return {name: 2 * a for name, a in super().lstm_state_dict().items()}

    done = run(None, Doubled())
    assert done.exit_code == 1
    assert "the corrected class follows the equations" in done.stdout
    assert "the corrected class does not agree with jax_lstm.lstm" in done.stdout


def test_gradients_that_contradict_the_outputs(run):
    class Detached(Variant):
        def forward(self, x, h, c):
            self.layers = "oooo"
            shadow, _ = super().forward(x, h, c)
            self.layers = "ffff"
            outputs, last = super().forward(x, h, c)
            return outputs + (shadow - shadow.detach()), last

    done = run(Detached(collected="c"))
    assert done.exit_code == 1
    assert "its gradients contradict its outputs; layers without a gradient: i, c_" in done.stdout
    assert "gates use" not in done.stdout


def test_what_cannot_run_exits_2_in_one_line(run, tmp_path):
    class Broken(Variant):
        def forward(self, x, h, c):
            raise RuntimeError("no such kernel\nand more")

    done = run(Broken())
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "crosscheck: RuntimeError: no such kernel\n")
    done = run(None, None, "--json", str(tmp_path))
    assert done.exit_code == 2
    assert "not a file in a folder" in done.stderr


def test_the_help_states_the_exit_codes():
    assert "Exit code 0" in CliRunner().invoke(cli.app, ["notebook", "--help"]).stdout
    assert isinstance(notebook_classes()[0], nn.Module)
