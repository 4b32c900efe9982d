"""A run of a torch module: values in a copy, complex numbers, narrow dtypes, second derivatives, errors."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import copy
import threading

import ml_dtypes
import numpy as np
import pytest
import torch

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.module_copy import KINDS, copy_module
from crosscheck.core.problem import Gradient, Problem
from crosscheck.core.torch_runner import run_torch

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))


class Calls(torch.nn.Module):
    """A module whose forward is a function of the module and its inputs."""

    def __init__(self, function, **members):
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *inputs, **kwargs):
        return self.function(self, *inputs, **kwargs)


def drawn(module):
    return {name: RNG.normal(size=p.shape) for name, p in module.named_parameters()}


def problem_of(params, x=X, output=(4, 2), wrt=None, cotangent=None, tangents=False):
    wrt = (*params, "x") if wrt is None else wrt
    leaves = {**params, "x": x}
    along = {name: RNG.normal(size=leaves[name].shape) for name in wrt} if tangents else {}
    cotangent = RNG.normal(size=output) if cotangent is None else cotangent
    return Problem(params, (x,), ("x",), ("y",), (cotangent,), wrt, tangents=along)


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-13, atol=1e-13, err_msg=str(name))


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.register_buffer("scale", torch.tensor([2.0, 3.0]))

    def forward(self, x):
        return self.linear(x) * self.scale


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(4, 3))])
@pytest.mark.parametrize("prefix", ["", "0."])
def test_torchscript_runs_with_the_given_values(make, prefix):
    eager = Scaled()
    params, cotangent, scale = drawn(eager), RNG.normal(size=(4, 2)), np.array([5.0, 7.0])
    expected = run_torch(eager, problem_of(params, cotangent=cotangent), "float64", buffers={"scale": scale})
    module = torch.nn.Sequential(make(eager)) if prefix else make(eager)
    problem = problem_of({prefix + name: a for name, a in params.items()}, cotangent=cotangent)
    got = run_torch(module, problem, "float64", buffers={prefix + "scale": scale})
    assert {a.dtype for a in got.values()} == {np.dtype("float64")}
    assert_same(
        {str(name).replace(prefix, ""): a for name, a in got.items()}, {str(name): a for name, a in expected.items()}
    )


def test_parameters_tied_between_torchscript_and_its_surroundings():
    inner = torch.nn.Linear(3, 3, bias=False)
    tied = Calls(lambda m, x: m.a(m.b(x)), a=torch.jit.script(inner), b=torch.nn.Linear(3, 3, bias=False))
    tied.b.weight = tied.a.weight
    eager = Calls(lambda m, x: m.a(m.a(x)), a=inner)
    problem = problem_of({"a.weight": RNG.normal(size=(3, 3))}, output=(4, 3))
    assert_same(run_torch(tied, problem, "float64"), run_torch(eager, problem, "float64"))


def test_tied_parameters_parametrizations_and_plain_references_see_the_values():
    tied = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    listed = Calls(lambda m, x: x @ m.also[0].T, weight=torch.nn.Parameter(torch.ones(2, 3)))
    listed.also = [listed.weight]
    for module in (tied, torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3)), listed):
        params = drawn(module)
        output = module(torch.ones(4, 3)).shape
        problem = problem_of(params, output=output)
        whole = copy.deepcopy(module).double()
        with torch.no_grad():
            for name, p in whole.named_parameters():
                p.copy_(torch.tensor(params[name]))
        y = whole(torch.tensor(X))
        expected = torch.autograd.grad(y, list(whole.parameters()), torch.tensor(problem.cotangents[0]))
        got = run_torch(module, problem, "float64")
        np.testing.assert_allclose(got["y"], y.detach(), rtol=1e-13)
        for name, value in zip(params, expected, strict=True):
            np.testing.assert_allclose(got[Gradient(name)], value, rtol=1e-12, atol=1e-14)


def test_the_module_is_not_changed_and_keeps_no_gradient():
    module = Scaled()
    module.kept = torch.ones(2)
    before = {name: a.clone() for name, a in module.state_dict().items()}
    run_torch(module, problem_of(drawn(module)), "float64", buffers={"scale": np.zeros(2)})
    for name, a in module.state_dict().items():
        assert a.dtype == torch.float32
        assert torch.equal(a, before[name])
    assert module.kept.dtype == torch.float32
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_a_tensor_that_the_copy_shares_with_the_module_is_not_changed():
    class Shared:
        def __deepcopy__(self, memo):
            return self

    module = Calls(lambda m, x: x)
    module.shared = Shared()
    module.shared.kept = torch.ones(2)
    run_torch(module, problem_of({}, output=(4, 3)), "float64")
    assert module.shared.kept.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_modules_that_deepcopy_refuses():
    old = torch.nn.utils.weight_norm(torch.nn.Linear(3, 2))
    old(torch.ones(1, 3))
    new = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))
    params = {"bias": RNG.normal(size=2), "weight_g": RNG.normal(size=(2, 1)), "weight_v": RNG.normal(size=(2, 3))}
    renamed = {
        "bias": "bias",
        "weight_g": "parametrizations.weight.original0",
        "weight_v": "parametrizations.weight.original1",
    }
    cotangent = RNG.normal(size=(4, 2))
    got = run_torch(old, problem_of(params, cotangent=cotangent), "float64")
    other = problem_of({renamed[name]: a for name, a in params.items()}, cotangent=cotangent)
    expected = run_torch(new, other, "float64")
    for name, other_name in renamed.items():
        np.testing.assert_allclose(got[Gradient(name)], expected[Gradient(other_name)], rtol=1e-12)

    stateful = Calls(lambda m, x: m.cell(x, m.kept[-1]["h"]), cell=torch.nn.GRUCell(3, 2))
    stateful.kept = [{"h": stateful.cell(torch.ones(4, 3))}]
    with pytest.raises(RuntimeError, match="deepcopy protocol"):
        copy.deepcopy(stateful)
    params = drawn(stateful)
    assert run_torch(stateful, problem_of(params), "float64")["y"].dtype == np.float64
    assert stateful.kept[0]["h"].requires_grad


def test_a_module_that_cannot_be_copied_says_so():
    module = Calls(lambda m, x: x)
    module.lock = threading.Lock()
    with pytest.raises(CouldNotRun, match=r"the torch module cannot be copied: .*lock"):
        run_torch(module, problem_of({}, output=(4, 3)), "float64")


def test_a_kept_view_of_a_parameter_is_refused():
    """The view would keep the module's own values, and ignore the given values."""
    module = Calls(lambda m, x: x @ m.turned, weight=torch.nn.Parameter(torch.ones(2, 3)))
    module.turned = module.weight.T
    with pytest.raises(CouldNotRun, match="keeps a view of a parameter"):
        run_torch(module, problem_of(drawn(module)), "float64")


def test_the_cast_keeps_imaginary_parts():
    module = Calls(lambda m, x: x, z=torch.nn.Parameter(torch.tensor([1 + 2j])))
    module.register_buffer("w", torch.tensor([3 - 4j]))
    copied = copy_module(module, KINDS["float64"], train=False).module
    assert (copied.z.dtype, copied.w.dtype) == (torch.complex128, torch.complex128)
    assert (copied.z.item(), copied.w.item()) == (1 + 2j, 3 - 4j)
    assert copy_module(module, KINDS["float32"], train=False).module.z.dtype == torch.complex64
    with pytest.raises(CouldNotRun, match="there are no complex numbers in bfloat16"):
        copy_module(module, KINDS["bfloat16"], train=False)


def test_complex_results_are_pairs_of_real_numbers():
    """For the loss L = Re(conj(c) · w z), torch's gradient of w is c · conj(z)."""
    module = Calls(lambda m, z: m.w * z, w=torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64)))
    w, z, c = (RNG.normal(size=3) + 1j * RNG.normal(size=3) for _ in range(3))
    problem = Problem({"w": w}, (z,), ("z",), ("y",), (c,), ("w", "z"))
    got = run_torch(module, problem, "float64")
    for name, expected in (("y", w * z), (Gradient("w"), c * z.conj()), (Gradient("z"), c * w.conj())):
        np.testing.assert_allclose(got[name], np.stack([expected.real, expected.imag], -1), rtol=1e-14)
    assert run_torch(module, problem, "float32")["y"].dtype == np.float32


def test_narrow_dtypes_and_a_result_of_another_dtype():
    module = torch.nn.Linear(3, 2)
    params = drawn(module)
    for dtype, kind in (("bfloat16", ml_dtypes.bfloat16), ("float16", np.float16)):
        got = run_torch(module, problem_of(params), dtype)
        assert {a.dtype for a in got.values()} == {np.dtype(kind)}
        np.testing.assert_allclose(got["y"].astype(float), X @ params["weight"].T + params["bias"], rtol=0.1, atol=0.05)
    upcast = run_torch(module, problem_of(params), "bfloat16", torch_fn=lambda m, x: m(x).float())
    assert upcast["y"].dtype == np.float32
    assert upcast[Gradient("weight")].dtype == ml_dtypes.bfloat16


def test_keyword_arguments_and_static_inputs():
    seen = []

    def call(module, x, n, mode, *, scale, flag, nested):
        seen.append((type(n), mode, flag, scale.dtype, nested["mask"].dtype))
        return module(x) * n * scale

    module = torch.nn.Linear(3, 2)
    problem = Problem(
        drawn(module), (X, 3, "mean"), ("x", "n", "mode"), ("y",), (RNG.normal(size=(4, 2)),), ("weight", "x")
    )
    kwargs = {"scale": np.float32([2, 3]) * 1, "flag": True, "nested": {"mask": torch.ones(2, requires_grad=True)}}
    run_torch(module, problem, "float64", torch_fn=call, kwargs=kwargs)
    run_torch(module, problem, "float32", torch_fn=call, kwargs=kwargs)
    assert seen == [(int, "mean", True, kind, kind) for kind in (torch.float64, torch.float32)]


def test_a_hessian_vector_product():
    """Compare that of y = tanh(x W^T) with torch.autograd.functional.hvp, which differentiates differently."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
    params = drawn(module)
    problem = problem_of(params, tangents=True)
    got = run_torch(module, problem, "float64")
    assert [str(name) for name in got][-3:] == [
        f"hessian-vector product {name}" for name in ("0.weight", "0.bias", "x")
    ]

    def loss(weight, bias, x):
        return torch.sum(torch.tensor(problem.cotangents[0]) * torch.tanh(x @ weight.T + bias))

    at = tuple(torch.tensor(a) for a in (*params.values(), X))
    along = tuple(torch.tensor(problem.tangents[name]) for name in problem.wrt)
    _, expected = torch.autograd.functional.hvp(loss, at, along)
    for name, value in zip(problem.wrt, expected, strict=True):
        np.testing.assert_allclose(got[Gradient(name, 2)], value, rtol=1e-12)
    linear = run_torch(
        torch.nn.Linear(3, 2), problem_of(drawn(torch.nn.Linear(3, 2)), wrt=("x",), tangents=True), "float64"
    )
    np.testing.assert_array_equal(linear[Gradient("x", 2)], 0)


def test_second_derivatives_where_torchs_fast_kernels_have_none():
    lstm = torch.nn.LSTM(3, 2, batch_first=True)
    params, x = drawn(lstm), RNG.normal(size=(4, 5, 3))
    run_torch(lstm, problem_of(params, x, (4, 5, 2), tangents=True), "float32", torch_fn=lambda m, x: m(x)[0])
    attend = Calls(lambda m, x: torch.nn.functional.scaled_dot_product_attention(x, x, x))
    run_torch(attend, problem_of({}, RNG.normal(size=(1, 2, 4, 8)), (1, 2, 4, 8), tangents=True), "float64")

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, dy):
            return 2 * dy

    once = Calls(lambda m, x: Once.apply(x) ** 2)
    with pytest.raises(CouldNotRun, match="torch cannot differentiate the module twice"):
        run_torch(once, problem_of({}, output=(4, 3), tangents=True), "float64")


def test_errors_of_the_users_code_keep_their_type_and_say_where():
    about_dtypes = [RuntimeError("expected scalar type Double but found Float"), RuntimeError("Double check the dtype")]
    for error in (RuntimeError("no such luck"), KeyError("a"), ZeroDivisionError(), *about_dtypes):

        def fails(module, x, error=error):
            raise error

        with pytest.raises(type(error)) as caught:
            run_torch(torch.nn.Linear(3, 2), problem_of({}), "float64", torch_fn=fails)
        assert caught.value is error
        assert caught.value.__notes__ == ["raised inside the torch module, in the float64 check"]
    fixed = lambda m, x: m(x) + torch.zeros(4, 3) @ m.weight.T
    module = torch.nn.Linear(3, 2)
    with pytest.raises(CouldNotRun, match=r"could not run in float64: .*x.new_zeros"):
        run_torch(module, problem_of(drawn(module)), "float64", torch_fn=fixed)


WRONG_DTYPE = {
    "lstm": lambda m, x: torch.nn.LSTM(3, 2)(x),
    "convolution": lambda m, x: torch.nn.functional.conv1d(x[None], torch.zeros(4, 4, 1)),
    "index_put": lambda m, x: x.clone().index_put_((torch.arange(4),), torch.zeros(4, 3)),
    "scatter": lambda m, x: torch.zeros(4, 3).scatter(0, torch.zeros(4, 3, dtype=torch.long), x),
    "index_add": lambda m, x: torch.zeros(4, 3).index_add(0, torch.arange(4), x),
    "attention": lambda m, x: torch.nn.functional.scaled_dot_product_attention(x[None], *torch.zeros(2, 1, 4, 3)),
    "layer_norm": lambda m, x: torch.nn.functional.layer_norm(x, (3,), torch.ones(3)),
    "lerp": lambda m, x: x.lerp(torch.zeros(4, 3), 0.5),
    "loss": lambda m, x: torch.nn.functional.binary_cross_entropy(x.sigmoid(), torch.zeros(4, 3)),
    "script": lambda m, x: torch.jit.script(torch.nn.Linear(3, 2))(x),
    "complex": lambda m, x: torch.complex(x, torch.zeros(4, 3)),
    "in place": lambda m, x: torch.arange(3).add_(x[0]),
    "bilinear": lambda m, x: torch.nn.functional.bilinear(x, x, torch.zeros(2, 3, 3)),
    "baddbmm": lambda m, x: torch.baddbmm(x[None], torch.zeros(1, 4, 3), torch.zeros(1, 3, 3)),
    "no kernel": lambda m, x: torch.nn.functional.gelu(torch.arange(3)),
    "prelu": lambda m, x: torch.nn.functional.prelu(x, torch.zeros(3)),
}


@pytest.mark.parametrize("name", WRONG_DTYPE)
def test_torchs_own_words_about_dtypes(name):
    with pytest.raises(CouldNotRun, match="could not run in float64"):
        run_torch(torch.nn.Linear(3, 2), problem_of({}), "float64", torch_fn=WRONG_DTYPE[name])


def test_torchscript_without_a_forward():
    module = torch.jit.script(torch.nn.LSTM(3, 2))
    with pytest.raises(CouldNotRun, match="Script a module whose forward calls it"):
        run_torch(module, problem_of(drawn(module), RNG.normal(size=(5, 1, 3))), "float64")


def test_a_sparse_gradient_is_made_dense():
    module = torch.nn.Embedding(5, 2, sparse=True)
    problem = Problem(
        {"weight": RNG.normal(size=(5, 2))}, (np.array([1, 3]),), ("t",), ("y",), (np.ones((2, 2)),), ("weight",)
    )
    np.testing.assert_array_equal(run_torch(module, problem, "float64")[Gradient("weight")][:, 0], [0, 1, 0, 1, 0])
