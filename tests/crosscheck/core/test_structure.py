"""The results of torch and of the port, as arrays with paths."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import jax
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from crosscheck.core.structure import jax_outputs, order_of, structure_text, torch_outputs

T = torch.ones(2)
Pair = namedtuple("Pair", "h c")


@dataclass
class Fields:
    loss: object
    logits: object
    hidden: object = None


class ModelOutput(OrderedDict):
    """An output that is ordered by its keys, as Hugging Face's."""


@jax.tree_util.register_dataclass
@dataclass
class Registered:
    logits: object
    loss: object


def names(out):
    return torch_outputs(out).names


def test_paths_and_names_of_torchs_outputs():
    assert names(T) == ("output 0",)
    assert names((T, [T, None, T])) == ("output 0", "output 1", "output 2")
    assert names({"b": T, "a": T}) == ("b", "a")
    assert names(ModelOutput(last_hidden_state=T, hidden_states=(T, T))) == (
        "last_hidden_state", "hidden_states[0]", "hidden_states[1]",
    )  # fmt: skip
    assert names(Fields(T, T)) == ("loss", "logits")
    assert names((T, Pair(T, T))) == ("output 0", "output 1.h", "output 1.c")
    assert names({"state": Pair(T, T)}) == ("state.h", "state.c")
    assert torch_outputs((T, [T, None, T])).paths == ((0,), (1, 0), (1, 2))


def test_paths_of_jaxs_outputs():
    a = np.ones(2)
    assert jax_outputs(a).paths == ((),)
    assert jax_outputs((a, [a, None, a])).paths == ((0,), (1, 0), (1, 2))
    assert jax_outputs({"b": a, "a": (a,)}).paths == (("a", 0), ("b",))
    assert jax_outputs(Registered(a, a)).paths == (("logits",), ("loss",))
    assert jax_outputs((a, Pair(a, a))).paths == ((0,), (1, "h"), (1, "c"))


def test_names_match_in_any_order_and_positions_by_index():
    torchs = torch_outputs(Fields(T, T)).paths
    assert order_of(torchs, jax_outputs(Registered(1.0, 2.0)).paths) == [1, 0]
    assert order_of(torchs, jax_outputs({"logits": 1.0, "loss": 2.0}).paths) == [1, 0]
    assert order_of([(0,), (1,)], [(0,), (1,)]) == [0, 1]


@pytest.mark.parametrize(
    ("torchs", "jaxs", "message"),
    [
        ({"loss": T}, (1.0,), "torch's outputs have names. Return a dict with these keys from jax_fn"),
        ((T, T), {"a": 1.0, "b": 2.0}, r"got {'a': \*, 'b': \*}\. Reorder or unpack its outputs"),
        ({"loss": T, "logits": T}, {"loss": 1.0, "logit": 1.0}, "jax_fn lacks logits; torch lacks logit"),
        ((T, (T, T)), (1.0, 1.0), r"returns, \(\*, \(\*, \*\)\); got \(\*, \*\)"),
        (T, (1.0,), r"returns, \*; got \(\*,\)"),
    ],
)
def test_other_structures_are_refused(torchs, jaxs, message):
    with pytest.raises(ValueError, match=message):
        order_of(torch_outputs(torchs).paths, jax_outputs(jaxs).paths)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ((T, "mean"), "got a str at position 1"),
        ({"loss": 1.0}, "got a float at loss"),
        ({"cache": [object()]}, r"got a object at cache\[0\]"),
        (3, r"got a int\. Choose its tensors with torch_fn"),
    ],
)
def test_a_leaf_that_is_no_tensor_is_refused(out, message):
    with pytest.raises(TypeError, match=message):
        torch_outputs(out)


def test_a_packed_sequence_is_padded():
    x = torch.arange(24.0).reshape(2, 4, 3) + 1
    packed = pack_padded_sequence(x, torch.tensor([4, 2]), batch_first=True)
    found = torch_outputs((packed, T))
    assert (found.paths, found.packed, found.names) == (((0,), (1,)), ((0,),), ("output 0", "output 1"))
    np.testing.assert_array_equal(found.leaves[0][0], x[0])
    np.testing.assert_array_equal(found.leaves[0][1, 2:], 0)
    assert torch_outputs(packed, time_major=True).leaves[0].shape == (4, 2, 3)


def test_a_structure_in_words():
    assert structure_text([(0,), (1, "h"), (1, "c")]) == "(*, {'h': *, 'c': *})"
