"""A change does not modify the drawn problem, and affects the side (torch or JAX) that it names."""

from __future__ import annotations

from functools import partial

from tests.support.requirements import need

need("torch")

import numpy as np
import torch

from crosscheck.models import changing
from crosscheck.models.pair import Drawn


def power(params, x, *, exponent):
    return params["weight"][0, 0] * x**exponent


def drawn():
    return Drawn(partial(power, exponent=2), torch.nn.Linear(1, 1, bias=False), (np.array([3.0]),))


def result(problem):
    return problem.port({"weight": np.ones((1, 1))}, *problem.inputs)


def test_options_replace_those_of_the_port():
    problem = drawn()
    assert result(changing.options(exponent=3)(problem)) == 27
    assert result(problem) == 9


def test_another_port_takes_the_options_of_the_right_one():
    assert result(changing.other_port(lambda params, x, *, exponent: exponent)(drawn())) == 2


def test_other_params_replace_those_that_are_named():
    assert result(changing.other_params(lambda p: {"weight": 5 * p["weight"]})(drawn())) == 45


def test_other_result_and_around_see_the_right_port():
    assert result(changing.other_result(lambda y: -y)(drawn())) == -9
    assert result(changing.around(lambda port, params, x: port(params, x) + 1)(drawn())) == 10


def test_other_inputs_reach_both_sides():
    assert changing.other_inputs(lambda x: (x + 1,))(drawn()).inputs[0] == 4


def test_another_module_is_a_copy():
    problem = drawn()
    before = problem.module.weight.clone()
    changed = changing.other_module(lambda m: m.weight.zero_())(problem)
    assert changed.params["weight"] == 0
    assert torch.equal(problem.module.weight, before)


def test_both_changes_apply_in_order():
    change = changing.both(changing.other_inputs(lambda x: (x + 1,)), changing.other_inputs(lambda x: (2 * x,)))
    assert change(drawn()).inputs[0] == 8
