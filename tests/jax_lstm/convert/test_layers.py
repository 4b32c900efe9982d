"""convert.cell, convert.stack and every to_x refuse what is not weights, with an error that names the argument."""

from __future__ import annotations

import jax
import pytest

import jax_lstm
from jax_lstm import convert
from tests.support.requirements import need

PARAMS = jax_lstm.init_lstm(jax.random.key(0), 2, 3)


@pytest.mark.parametrize("layer", ["0", None, 0.0, True])
def test_the_number_of_a_layer_must_be_an_integer(layer):
    with pytest.raises(TypeError, match=f"layer must be the number of a layer, counted from 0; got {layer!r}"):
        convert.cell(PARAMS, layer)


@pytest.mark.parametrize("cells", [3, None, convert.cell(PARAMS)])
def test_a_stack_needs_a_list_of_cells(cells):
    with pytest.raises(TypeError, match=f"cells must be a list .* got {type(cells).__name__}"):
        convert.stack(cells)


@pytest.mark.parametrize("name", [name for name in convert.__all__ if name.startswith("to_")])
def test_every_writer_refuses_what_is_not_a_dict(name):
    if name == "to_onnx":
        need("onnx")
    with pytest.raises(TypeError, match=r"params must be a (flat )?dict of arrays by torch's names; got int"):
        getattr(convert, name)(3)
