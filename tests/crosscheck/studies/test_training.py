"""Training in both frameworks: the same algorithm agrees at every step, and a different algorithm does not."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax.traverse_util import unflatten_dict

import torch_ref
from crosscheck.core.finding import Outcome
from crosscheck.core.jax_runner import jax_precision
from crosscheck.lstm.corpus import Corpus, documentation
from crosscheck.studies.training import optimizers
from crosscheck.studies.training.in_jax import JaxTrainer
from crosscheck.studies.training.in_torch import TorchTrainer
from crosscheck.studies.training.judgement import judge_training, undecided_from
from crosscheck.studies.training.lockstep import TRAJECTORIES, Lockstep
from crosscheck.studies.training.optimizers import OPTIMIZERS
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.result import TrainingResult, results_of
from jax_lstm import linen

CORPUS = Corpus.of(documentation()[:5_000])
SIZES = {"batch": 3, "length": 7, "embedding_size": 4, "hidden_size": 8}
BOTH, FLOAT64, FLOAT32 = TRAJECTORIES, TRAJECTORIES[:1], TRAJECTORIES[1:]


def recipe(optimizer: str, steps: int = 4, **options) -> Recipe:
    return Recipe(CORPUS, optimizer, steps, **SIZES, **options)


def trained(of: Recipe, checks=FLOAT64, **options) -> list[TrainingResult]:
    run = Lockstep(of, checks, **options)
    for _ in run.advance():
        pass
    return results_of(run, judge_training(run))


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        *((name, 0.1) for name in OPTIMIZERS),
        *(pytest.param(name, None, marks=[] if name == "adam" else pytest.mark.slow) for name in OPTIMIZERS),
    ],
)
def test_the_same_algorithm_agrees_at_every_step(name, clip):
    of = recipe(name, steps=6, clip=clip, num_layers=2 if (name, clip) == ("adam", 0.1) else 1)
    for result in trained(of, BOTH):
        assert result.outcome is Outcome.AGREE, str(result.verdict)
        names = {f.quantity for f in result.findings}
        assert names >= {"loss", "validation loss", "gradient norm", "fc.weight", "lstm.bias_hh_l0"}
        assert names >= {f"{slot} {parameter}" for slot in OPTIMIZERS[name].slots for parameter in of.weights()}
        assert ("step" in names) == bool(OPTIMIZERS[name].counter)
        steps = {f.quantity: f.rows.error.size for f in result.findings}
        assert set(steps.values()) == {6}
        assert all(0 < f.limit < 1e-3 for f in result.findings)
        assert result.undecided is None


def other(name, make, slow=False):
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(name, make, marks=marks, id=f"{name}-{make.__doc__}")


def _as(text):
    def named(make):
        make.__doc__ = text
        return make

    return named


MISTAKES = [
    other("sgd", _as("rate a little off")(lambda rate: optax.sgd(rate * (1 + 1e-9)))),
    other("momentum", _as("nesterov")(lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True))),
    other("momentum", _as("dampened")(lambda rate: optax.chain(optax.ema(0.9, debias=False), optax.sgd(rate)))),
    other("adam", _as("eps inside the root")(lambda rate: optax.adam(rate, eps=0.0, eps_root=1e-8)), slow=True),
    other("adam", _as("eps")(lambda rate: optax.adam(rate, eps=1.1e-8))),
    other("adam", _as("beta2")(lambda rate: optax.adam(rate, b2=0.9990001)), slow=True),
    other("adam", _as("nesterov")(lambda rate: optax.adam(rate, nesterov=True)), slow=True),
    other("adamw", _as("optax's own decay")(lambda rate: optax.adamw(rate))),
    other("adamw", _as("decay in the gradient")(
        lambda rate: optax.chain(optax.add_decayed_weights(1e-2), optax.adam(rate))), slow=True),
    other("rmsprop", _as("eps inside the root")(lambda rate: optax.rmsprop(rate, decay=0.99))),
    other("rmsprop", _as("optax's own decay")(lambda rate: optax.rmsprop(rate, eps_in_sqrt=False)), slow=True),
    other("rmsprop", _as("bias correction")(
        lambda rate: optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False, bias_correction=True)), slow=True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make"), MISTAKES)
def test_another_algorithm_does_not(name, make, monkeypatch):
    slots = dict(OPTIMIZERS[name].slots)
    if "ema" in str(make.__code__.co_names):
        slots = {"momentum_buffer": "ema"}
    monkeypatch.setitem(OPTIMIZERS, name, dataclasses.replace(OPTIMIZERS[name], optax=make, slots=slots))
    (result,) = trained(recipe(name))
    assert result.outcome is Outcome.DISAGREE
    wrong = [f for f in result.findings if f.verdict is Outcome.DISAGREE]
    assert min(f.first_step for f in wrong) <= 2
    assert {"float64", "float64 1-step"} == {str(f.check) for f in wrong}
    assert "training step that differs" in str(result.verdict)


def test_clipping_without_torchs_epsilon_is_seen(monkeypatch):
    assert trained(recipe("sgd", clip=0.1))[0].outcome is Outcome.AGREE
    monkeypatch.setattr("crosscheck.studies.training.in_jax.clip_as_torch", optax.clip_by_global_norm)
    (result,) = trained(recipe("sgd", clip=0.1))
    assert result.outcome is Outcome.DISAGREE
    assert min(f.first_step for f in result.findings if f.first_step) == 1


def test_clip_as_torch_is_torchs():
    gradients = {"a": np.array([3.0, -4.0]), "b": np.array([[12.0]])}
    for bound in (1.0, 12.9999, 13.0, 20.0):
        tensors = [torch.nn.Parameter(torch.tensor(g)) for g in gradients.values()]
        for tensor in tensors:
            tensor.grad = tensor.detach().clone()
        norm = torch.nn.utils.clip_grad_norm_(tensors, bound)
        assert float(norm) == 13.0
        clipped, _ = optimizers.clip_as_torch(bound).update(gradients, optax.EmptyState())
        for got, tensor in zip(clipped.values(), tensors, strict=True):
            np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-15)


class Drifting(JaxTrainer):
    """A port with one wrong number in the second moment of a late step."""

    def step(self, state, tokens):
        new = super().step(state, tokens)
        if new["step"] == 3:
            new["exp_avg_sq fc.bias"] = new["exp_avg_sq fc.bias"].copy()
            new["exp_avg_sq fc.bias"][0] *= 1 + 1e-11
        return new


def test_a_state_that_is_wrong_in_one_number_at_one_step_is_named():
    (result,) = trained(recipe("adam", steps=5), port=Drifting)
    assert result.outcome is Outcome.DISAGREE
    single = [f for f in result.findings if str(f.check) == "float64 1-step" and f.verdict is Outcome.DISAGREE]
    assert [(f.quantity, f.first_step, f.counts["disagree"]) for f in single] == [("exp_avg_sq fc.bias", 3, 1)]


CHAOTIC = recipe("momentum", steps=70, learning_rate=5.0)


@pytest.mark.isa
def test_a_chaotic_training_is_inconclusive_from_a_step_on_and_single_steps_decide():
    (result,) = trained(CHAOTIC)
    assert result.outcome is Outcome.AGREE
    step, _ = result.undecided
    assert 20 < step < 70
    doubtful = [f for f in result.findings if str(f.check) == "float64" and f.verdict is Outcome.INCONCLUSIVE]
    assert doubtful
    assert all(f.settled_by for f in doubtful)
    assert any("past deciding" in note and f"from step {step} on" in note for note in result.notes)
    singles = [f for f in result.findings if str(f.check) == "float64 1-step"]
    assert all(f.ok and f.limit < 1e-9 for f in singles)


class WrongLate(JaxTrainer):
    def step(self, state, tokens):
        new = super().step(state, tokens)
        return new | {"fc.bias": new["fc.bias"] * (1 + 1e-10 * (new["step"] > 60))}


def test_a_mistake_inside_the_chaos_is_seen_by_single_steps():
    (result,) = trained(CHAOTIC, port=WrongLate)
    assert result.outcome is Outcome.DISAGREE
    wrong = [(f.quantity, f.first_step) for f in result.findings if str(f.check) == "float64 1-step" and not f.ok]
    assert ("fc.bias", 61) in wrong
    assert {quantity for quantity, _ in wrong} <= {"fc.bias", "validation loss"}
    assert not any(f.settled_by for f in result.findings)


def exact_adam(rate, b1=0.9, b2=0.999, eps=1e-8):
    """Return Adam that computes 1 − β^t from the exact β, as −expm1(t log β)."""

    def update(gradients, state, params=None):
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradients)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, gradients)
        first, second = (-jnp.expm1(count * math.log(b)) for b in (b1, b2))
        updates = jax.tree.map(lambda m, v: -rate * (m / first) / (jnp.sqrt(v / second) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


ADAM = {"adam at hidden 256": (3e-3, 256), "adam at a high rate": (0.1, 8)}


@pytest.mark.isa
@pytest.mark.parametrize(("rate", "hidden"), ADAM.values(), ids=ADAM)
def test_the_rounding_of_a_constant_is_no_mistake(rate, hidden, monkeypatch):
    """float32 rounds β = 0.999 and so moves 1 − β^t. The limits include it: κ is also measured with moved constants."""
    of = Recipe(CORPUS, "adam", 5, rate, batch=3, length=7, embedding_size=4, hidden_size=hidden)
    (moving,) = trained(of, FLOAT32)
    assert moving.outcome is Outcome.AGREE, str(moving.verdict)
    assert moving.departs is None
    monkeypatch.setattr(TorchTrainer, "_move_constants", lambda self, off: None)
    (fixed,) = trained(of, FLOAT32)
    assert fixed.departs is not None
    assert fixed.departs[0] <= 3


@pytest.mark.isa
def test_most_of_adams_distance_in_float32_is_its_bias_correction(monkeypatch):
    """docs/training.md says so."""
    of = Recipe(CORPUS, "adam", 20, batch=8, length=32, embedding_size=16, hidden_size=32)
    (stock,) = trained(of, FLOAT32)
    monkeypatch.setitem(OPTIMIZERS, "adam", dataclasses.replace(OPTIMIZERS["adam"], optax=exact_adam))
    (exact,) = trained(of, FLOAT32)
    assert stock.outcome is exact.outcome is Outcome.AGREE
    assert exact.steps[-1].difference < stock.steps[-1].difference / 4


class Wearing(JaxTrainer):
    """A port with a weight that grows by one rounding per step. One step does not show it, but many do."""

    def step(self, state, tokens):
        new = super().step(state, tokens)
        return new | {"fc.weight": new["fc.weight"] * np.float32(1 + 2**-23)}


@pytest.mark.isa
def test_what_adds_up_over_float32_steps_is_reported():
    of = Recipe(CORPUS, "sgd", 60, 0.5, batch=3, length=7, embedding_size=4, hidden_size=8)
    (result,) = trained(of, FLOAT32, port=Wearing)
    assert result.outcome is Outcome.AGREE
    assert result.departs is not None
    assert result.departs[0] > 1
    assert any("adds up" in note for note in result.notes)


def test_a_diverging_truth_is_said_to_be_one():
    (result,) = trained(recipe("sgd", learning_rate=1e200))
    assert result.outcome is not Outcome.AGREE
    assert any("torch itself is not finite from step" in note for note in result.notes)


class Half(JaxTrainer):
    """A port that keeps its parameters in bfloat16."""

    def step(self, state, tokens):
        new = super().step(state, tokens)
        return {n: np.asarray(jnp.asarray(a).astype(jnp.bfloat16).astype(a.dtype)) for n, a in new.items()}


def test_lost_precision_disagrees_in_float32_and_diverges():
    (result,) = trained(recipe("sgd", steps=5), FLOAT32, port=Half)
    assert result.outcome is Outcome.DISAGREE
    assert result.diverges == 1
    assert "differ by more than 1e-3 from step 1 on" in result.notes[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torch_from_named_arrays_is_torch_training(name):
    """All bits equal those of a plain loop over torch.optim."""
    of = recipe(name, clip=0.2)
    state, trainer = of.first_state(), TorchTrainer(of, "float64")
    module = torch_ref.SequenceModel(CORPUS.vocabulary, 4, 8, CORPUS.vocabulary).double()
    module.load_state_dict({name: torch.tensor(a) for name, a in of.weights().items()})
    optimizer = of.algorithm.torch(module.parameters(), of.rate)
    for n in range(4):
        state = trainer.step(state, of.tokens(n))
        tokens = torch.tensor(of.tokens(n))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.2)
        optimizer.step()
        assert state["loss"] == loss.item()
        for key, parameter in module.named_parameters():
            assert np.array_equal(state[key], parameter.detach().numpy())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_jax_from_named_arrays_is_optax_training(name):
    """The numbers are those of a plain jitted loop over optax, within the rounding that fusion may change."""
    of = recipe(name)
    state, trainer = of.first_state(), JaxTrainer(of, "float64")
    model = linen.SequenceModel(CORPUS.vocabulary, 4, 8, CORPUS.vocabulary)
    optimizer = of.algorithm.optax(of.rate)

    @jax.jit
    def step(params, memory, tokens):
        def loss_of(params):
            logits, _ = model.apply({"params": params}, tokens[:, :-1])
            return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, memory = optimizer.update(gradients, memory, params)
        return optax.apply_updates(params, updates), memory, loss

    with jax_precision("float64"):
        params = unflatten_dict(of.weights(), sep=".")
        memory = optimizer.init(params)
        for n in range(4):
            state = trainer.step(state, of.tokens(n))
            params, memory, loss = step(params, memory, of.tokens(n))
            np.testing.assert_allclose(state["loss"], loss, rtol=1e-14)
            np.testing.assert_allclose(state["lstm.weight_hh_l0"], params["lstm"]["weight_hh_l0"], rtol=1e-11)
            assert not OPTIMIZERS[name].counter or state["step"] == n + 1


def test_the_same_recipe_gives_the_same_numbers():
    first, second = (trained(recipe("adam"), BOTH) for _ in range(2))
    assert [r.findings for r in first] == [r.findings for r in second]
    assert first[0].steps == second[0].steps


def test_only_a_single_stretch_decides_from_any_state():
    """``undecided_from`` reads only trajectories, check by check."""
    run = Lockstep(recipe("sgd"), FLOAT64)
    list(run.advance())
    findings = judge_training(run)
    assert undecided_from(findings, FLOAT64[0].check) is None
    assert undecided_from(findings, FLOAT32[0].check) is None


def test_the_validation_text_is_never_trained_on():
    text = "abcdefghij" * 9 + "klmnopqrst"
    corpus = Corpus.of(text)
    assert (len(corpus.train), len(corpus.validation)) == (90, 10)
    assert set(corpus.validation) == {0}  # characters that the training part does not have
    assert corpus.vocabulary == 11
    of = dataclasses.replace(recipe("sgd"), corpus=corpus, length=9)
    assert of.tokens(0).shape == of.held_out().shape == (3, 10)
    assert all((of.tokens(n) > 0).all() for n in range(20))
    assert (of.held_out() == 0).all()
    assert not np.array_equal(of.tokens(0), of.tokens(1))


def test_evaluations_are_ten_and_the_last_step():
    of = recipe("sgd", steps=47)
    evaluated = [n for n in range(47) if of.evaluates(n)]
    assert len(evaluated) in (11, 12)
    assert evaluated[-1] == 46
    assert [n for n in range(3) if recipe("sgd", steps=3).evaluates(n)] == [0, 1, 2]


KEPT_APART = [
    other("sgd", _as("momentum")(lambda rate: optax.sgd(rate, momentum=0.9))),
    other("sgd", _as("a rate that halves")(lambda rate: optax.sgd(optax.exponential_decay(rate, 1, 0.5)))),
    other("rmsprop", _as("momentum")(
        lambda rate: optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False, momentum=0.9))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make"), KEPT_APART)
def test_what_only_optax_keeps_is_carried_and_so_seen(name, make, monkeypatch):
    """It has no counterpart in torch's state. A step from the truth's state resets it, and the trajectory keeps it."""
    monkeypatch.setitem(OPTIMIZERS, name, dataclasses.replace(OPTIMIZERS[name], optax=make))
    (result,) = trained(recipe(name))
    assert result.outcome is Outcome.DISAGREE
    assert {f.first_step for f in result.findings if str(f.check) == "float64" and f.quantity == "fc.bias"} == {2}


class Lost(JaxTrainer):
    """A port in which one number is NaN from the third step on, or with ``free`` only in the trajectory."""

    calls, free = 0, False

    def step(self, state, tokens):
        new = super().step(state, tokens)
        self.calls += 1
        if self.calls > 4 and not (self.free and self.calls % 2 == 0):
            new["fc.bias"] = np.append(new["fc.bias"][:-1], np.nan)
        return new


class LostFree(Lost):
    free = True


@pytest.mark.parametrize("port", [Lost, LostFree])
@pytest.mark.parametrize("checks", [FLOAT64, FLOAT32])
def test_a_port_that_loses_a_number_where_the_truth_has_one_disagrees(port, checks):
    (result,) = trained(recipe("sgd", steps=6), checks, port=port)
    if checks is FLOAT64 or port is Lost:
        assert result.outcome is Outcome.DISAGREE
        assert "training step that differs: 3" in str(result.verdict)
    assert result.undecided is None
    if checks is FLOAT32:
        assert result.diverges == 3
