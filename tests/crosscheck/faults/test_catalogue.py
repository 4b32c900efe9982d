"""The catalogue of faults: each changes only what its kind says, and is the mistake that its name says."""

from __future__ import annotations

from crosscheck.core.problem import Gradient
from tests.support.requirements import need

need("torch")

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import torch_ref
from crosscheck.core.norms import norm
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import NEEDS, Fault, Wrong
from crosscheck.faults.layout import reordered
from crosscheck.faults.parts import open_step, own_product, tf32
from crosscheck.libraries import torch_ref as reference
from crosscheck.lstm.cases import CASES, RecurrentCase

BOTH = RecurrentCase("both", "", 5, 9, 3, 4, num_layers=2, bidirectional=True, lengths=(5, 9, 0, 1, 9))
PLAIN = RecurrentCase("plain", "", 3, 8, 5, 4)
OTHERS = (
    PLAIN,
    RecurrentCase("projection", "", None, 3, 3, 5, num_layers=2, bidirectional=True, proj_size=2),
    RecurrentCase("no bias", "", 2, 2, 3, 4, bias=False, time_major=True, loss="last"),
    RecurrentCase("one step", "", 2, 1, 3, 4, num_layers=2),
    RecurrentCase("short rows", "", 3, 9, 3, 4, bidirectional=True, lengths=(3, 2, 1)),
)
TINY = {"float32-leak", "float32-tanh", "dW-float32", "one-weight-1e-5", "rational-tanh"}
NONE = Fault("none", "the reference", Wrong.OUTPUTS)


def relative(a, truth):
    """Return ‖a − truth‖ / ‖truth‖, or inf if a is not finite."""
    away = np.asarray(a, np.float64) - truth
    return norm(away) / norm(truth) if np.isfinite(away).all() else np.inf


@cache
def right(case, dtype="float64", scale=1.0):
    return reference.runner(case)(scaled(case, scale), dtype)


@cache
def wrong(name, case, dtype=None, scale=None):
    """Return the fault's results, by default in the dtype and scale that show the fault."""
    fault = FAULTS[name]
    dtype, usual = dtype or fault.precision, 2.0**20 if fault.homogeneity else 1.0
    return faulty.runner(fault, case)(scaled(case, scale or usual), dtype)


def scaled(case, scale):
    return replace(case.problem, cotangents=tuple(scale * a for a in case.problem.cotangents))


def same(a, b, names=None):
    return all(a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in names or b)


def assert_its_kind_changes(fault, case):
    got = wrong(fault.name, case)
    expected = right(case, fault.precision, 2.0**20 if fault.homogeneity else 1.0)
    outputs = case.problem.output_names
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert (got[name].shape, got[name].dtype) == (value.shape, value.dtype), name
    kind = outputs if fault.kind is Wrong.OUTPUTS else [name for name in expected if name not in outputs]
    error = max(relative(got[name], expected[name].astype(np.float64)) for name in kind)
    assert error > (1e-9 if fault.name in TINY else 1e-7)
    if fault.kind is Wrong.GRADIENTS:
        assert same(got, expected, outputs)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_what_its_kind_says(name):
    fault = FAULTS[name]
    case = BOTH if fault.applies(BOTH) else OTHERS[1]
    assert_its_kind_changes(fault, case)
    if fault.precision == "float32":
        assert same(wrong(name, case, "float64"), right(case), case.problem.output_names)
    if fault.homogeneity:
        assert same(wrong(name, case, scale=1.0), right(case))


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_wherever_a_fault_applies_it_makes_a_difference(case):
    applying = [fault for fault in FAULTS.values() if fault.applies(case)]
    assert len(applying) > 60
    for fault in applying:
        assert_its_kind_changes(fault, case)


@pytest.mark.parametrize("case", [BOTH, *OTHERS], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_without_hooks_it_is_the_reference_bit_for_bit(case, dtype):
    got = faulty.runner(NONE, case)(case.problem, dtype)
    assert list(got) == list(right(case, dtype))
    assert same(got, right(case, dtype))


def test_the_catalogue_is_as_large_as_it_says():
    kinds = [fault.kind for fault in FAULTS.values()]
    assert kinds.count(Wrong.OUTPUTS) >= 36
    assert kinds.count(Wrong.GRADIENTS) >= 23
    assert sum(fault.homogeneity for fault in FAULTS.values()) == 1
    assert len({fault.description for fault in FAULTS.values()}) == len(FAULTS)
    for name, fault in FAULTS.items():
        assert name == fault.name
        assert fault.description.startswith("the reference with ")
        assert fault.kind is Wrong.OUTPUTS or not fault.layout


def test_no_two_faults_are_the_same():
    prints = {}
    for name, fault in FAULTS.items():
        if fault.applies(BOTH):
            results = wrong(name, BOTH)
            prints.setdefault(b"".join(a.tobytes() for a in results.values()), []).append(name)
    assert [names for names in prints.values() if len(names) > 1] == []


def test_a_fault_that_cannot_show_says_why():
    with pytest.raises(ValueError, match=r"'bias_hh-dropped' .*'no bias', which lacks: bias"):
        faulty.runner(FAULTS["bias_hh-dropped"], OTHERS[2])
    with pytest.raises(ValueError, match=r"needs \['two heads'\]; expected some of bias"):
        Fault("f", "the reference", Wrong.OUTPUTS, needs=("two heads",))
    assert not FAULTS["h0-ignored"].applies(CASES["rnn-tanh"])
    assert not FAULTS["h0-ignored"].applies(CASES["text"])
    assert not FAULTS["h0-ignored"].applies(replace(PLAIN, lengths=(0, 0, 0)))
    assert {need for fault in FAULTS.values() for need in fault.needs} == set(NEEDS)


def zeroed(name):
    return lambda problem: with_input(problem, name, lambda a: 0 * a)


def with_input(problem, name, change):
    leaves = [change(a) if key == name else a for key, a in problem.input_leaves.items()]
    return replace(problem, inputs=problem.with_leaves(leaves))


def with_cotangent(name, change):
    def other(problem):
        names = problem.output_names
        pairs = zip(names, problem.cotangents, strict=True)
        return replace(problem, cotangents=tuple(change(a) if key == name else a for key, a in pairs))

    return other


def with_params(prefix, change):
    return lambda problem: replace(
        problem, params={key: change(a) if key.startswith(prefix) else a for key, a in problem.params.items()}
    )


def stored_in(order):
    """Return the change that reads blocks stored in ``order``, and puts them into torch's order by name."""

    def change(a):
        blocks = dict(zip(order, np.split(a, 4), strict=True))
        return np.concatenate([blocks[gate] for gate in "ifgo"])

    return with_params(("weight", "bias"), change)


def plus_one_on_forget(a):
    return a + np.repeat([0.0, 1.0, 0.0, 0.0], len(a) // 4)


EQUAL_TO = {
    "gate-order-igfo": stored_in("igfo"),
    "gate-order-iofg": stored_in("iofg"),
    "gate-order-gifo": stored_in("gifo"),
    "bias_hh-dropped": with_params("bias_hh", np.zeros_like),
    "bias_hh-doubled": with_params("bias_hh", lambda a: 2 * a),
    "forget-bias-plus-one": with_params("bias_ih", plus_one_on_forget),
    "h0-ignored": zeroed("h0"),
    "c0-ignored": zeroed("c0"),
    "x-late": lambda p: with_input(p, "x", lambda x: np.concatenate((0 * x[:, :1], x[:, :-1]), axis=1)),
    "x-reshaped": lambda p: with_input(p, "x", lambda x: x.reshape(8, 3, 5).swapaxes(0, 1)),
    "dh_n-ignored": with_cotangent("h_n", np.zeros_like),
    "dc_n-ignored": with_cotangent("c_n", np.zeros_like),
    "dy-reversed": with_cotangent("y", lambda a: np.flip(a, 1).copy()),
}


def assert_equal_but_for_order(got, expected, names):
    """Compare up to the order of summation, which depends on strides. Sums of some ten terms stay far under 1e-13."""
    for name in names:
        assert relative(got[name], expected[name]) < 1e-13, name


@pytest.mark.parametrize("name", EQUAL_TO)
def test_a_fault_is_the_reference_on_another_problem(name):
    """Each fault is written twice: in torch inside the network, and in NumPy as a change of the problem."""
    expected = reference.runner(PLAIN)(EQUAL_TO[name](PLAIN.problem), "float64")
    names = PLAIN.problem.output_names if FAULTS[name].kind is Wrong.OUTPUTS else list(expected)
    assert_equal_but_for_order(wrong(name, PLAIN), expected, names)


def test_a_fault_in_the_outputs_hands_gradients_back_as_a_port_would():
    """The fault reads an array in another order. Its gradient is returned in the order of the stored array."""
    got, problem = wrong("gate-order-igfo", PLAIN), PLAIN.problem
    inside = reference.runner(PLAIN)(stored_in("igfo")(problem), "float64")
    name = Gradient("weight_hh_l0")
    blocks = dict(zip("ifgo", np.split(inside[name], 4), strict=True))
    assert_equal_but_for_order(got, {name: np.concatenate([blocks[gate] for gate in "igfo"])}, [name])


def test_reading_in_the_order_of_the_file_is_right():
    a = torch.arange(12.0).reshape(12, 1)
    blocks = dict(zip("ifgo", a.chunk(4), strict=True))
    assert torch.equal(reordered(torch.cat([blocks[gate] for gate in "iofg"]), "iofg", "ifgo"), a)


def test_padding_consumed_is_a_network_without_lengths():
    x = BOTH.problem.input_leaves["x"] * (np.arange(9) < np.array(BOTH.lengths)[:, None])[..., None]
    blank = with_input(BOTH.problem, "x", lambda _: x)
    expected = reference.runner(replace(BOTH, lengths=None))(blank, "float64")
    assert_equal_but_for_order(wrong("padding-consumed", BOTH), expected, BOTH.problem.output_names)


def test_a_row_that_begins_where_the_last_one_ended_is_one_long_sequence():
    got = wrong("rows-carry-state", PLAIN)
    x = PLAIN.problem.input_leaves["x"].reshape(1, 24, 5)
    h, c = (PLAIN.problem.input_leaves[name][:, :1] for name in ("h0", "c0"))
    module = torch_ref.LSTM(5, 4, batch_first=True).double()
    module.load_state_dict({name: torch.tensor(a) for name, a in PLAIN.problem.params.items()})
    y, _ = module(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    assert_equal_but_for_order({"y": got["y"].reshape(1, 24, 4)}, {"y": y.detach().numpy()}, ["y"])


def test_truncation_ends_where_it_says():
    last = replace(PLAIN, loss="last")
    got, expected = wrong("truncated-at-half", last)[Gradient("x")], right(last)[Gradient("x")]
    assert not got[:, :4].any()
    assert np.array_equal(got[:, 4:], expected[:, 4:])
    assert expected[:, :4].any()


def test_reversed_time_is_what_the_reverse_direction_reads():
    one_way = RecurrentCase("", "", 3, 8, 5, 4, bidirectional=True)
    got, expected = wrong("reverse-not-flipped-back", one_way)["y"], right(one_way)["y"]
    assert np.array_equal(got[..., :4], expected[..., :4])
    assert np.array_equal(got[..., 4:], expected[:, ::-1, 4:])


def test_a_step_is_told_where_it_is():
    """The step gets layer, direction and time, which runs backward in the reverse direction, also over padding."""
    seen = []

    def step(w, x, state, at):
        seen.append(at)
        return open_step(w, x, state)

    case = replace(BOTH, batch=2, steps=3, lengths=(2, 1))
    faulty.runner(replace(NONE, step=step), case)(case.problem, "float64")
    rows = [(layer, reverse) for layer in (0, 1) for reverse in (False, True)]
    assert seen == [(*row, t, 2) for row in rows for t in ((2, 1, 0) if row[1] else (0, 1, 2))]


def test_a_gradient_one_step_late_is_shifted_along_time():
    for case in (PLAIN, OTHERS[2]):
        got, expected = (
            np.moveaxis(a[Gradient("x")], case.time_axis, 0) for a in (wrong("dx-late", case), right(case))
        )
        assert not got[0].any()
        assert np.array_equal(got[1:], expected[:-1])


def test_the_open_step_is_the_reference_bit_for_bit():
    """Compare the step without any replacement, and its outputs with a product that keeps full precision."""
    as_it_is = faulty.runner(replace(NONE, step=open_step), BOTH)
    with_product = faulty.runner(replace(NONE, step=lambda *step: open_step(*step, product=own_product())), BOTH)
    assert same(as_it_is(BOTH.problem, "float64"), right(BOTH))
    got = with_product(BOTH.problem, "float64")
    assert same(got, right(BOTH), BOTH.problem.output_names)
    assert_equal_but_for_order(got, right(BOTH), list(right(BOTH)))


def test_tf32_keeps_eleven_bits_and_rounds_to_even():
    exact = torch.tensor([1 + 2.0**-10, -3.5, 0.0, 2.0**-126, float("inf")])
    assert torch.equal(tf32(exact), exact)
    ties = torch.tensor([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-11 + 2.0**-23])
    assert torch.equal(tf32(ties), torch.tensor([1.0, 1 + 2.0**-9, 1 + 2.0**-10]))
