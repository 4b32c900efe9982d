"""The kinds of files that `crosscheck checkpoint` reads: how to make each kind, and the expected content.

docs/checkpoints.md has a row per kind, and a test compares both.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from tests.support import checkpoint_keras_onnx as foreign
from tests.support.checkpoint_example import Example, Network

READ, FOLDED, REFUSED = "read", "folded", "refused"
SIZES = {"input_size": 3, "hidden_size": 5}


@dataclass(frozen=True)
class Kind:
    """One row: the name of the file in the document, the expected outcome, and the function that writes a file.

    ``in_a_process`` says that a separate process reads it, which takes a second or two.
    """

    row: str
    outcome: str
    make: Callable[[Path], Example]
    in_a_process: bool = False


class Model(nn.Module):
    """A model around an LSTM. It is in float64, so a comparison of outputs includes the last digits."""

    def __init__(self, num_layers: int = 2, bidirectional: bool = False):
        super().__init__()
        torch.manual_seed(3)
        self.lstm = nn.LSTM(**SIZES, num_layers=num_layers, bidirectional=bidirectional, batch_first=True)
        self.head = nn.Linear(5 * (1 + bidirectional), 2)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0])


class CellModel(nn.Module):
    def __init__(self, **more: nn.Module):
        super().__init__()
        torch.manual_seed(4)
        self.cell = nn.LSTMCell(**SIZES)
        for name, module in more.items():
            self.cell.add_module(name, module)
        self.double()


def of_torch(module: nn.Module) -> Network:
    """Return the weights that a module computes with. It may store them in any form."""
    names = [f"{a}_{to}" for a in ("weight", "bias") for to in ("ih", "hh")]
    if isinstance(module, nn.LSTM):
        suffixes = ("", "_reverse")[: 1 + module.bidirectional]
        names = [f"{name}_l{k}{end}" for k in range(module.num_layers) for end in suffixes for name in names]
    params = {name: getattr(module, name).detach().numpy() for name in names}

    def run(x: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(x)
        if isinstance(module, nn.LSTM):
            return module(given)[0].detach().numpy()
        state = (torch.zeros(len(x), 5, dtype=given.dtype),) * 2
        steps = []
        for step in given.unbind(1):
            state = module(step, state)
            steps.append(state[0])
        return torch.stack(steps, 1).detach().numpy()

    return Network(params, run)


def _saved(path: Path, content: object, prefix: str, module: nn.Module, **options: bool) -> Example:
    torch.save(content, path, **options)
    return Example(path, {prefix: of_torch(module)})


def _state_dict(folder: Path) -> Example:
    model = Model(bidirectional=True)
    return _saved(folder / "checkpoint.pth.tar", model.state_dict(), "lstm", model.lstm)


def _old_format(folder: Path) -> Example:
    model = Model()
    return _saved(folder / "model", model.state_dict(), "lstm", model.lstm, _use_new_zipfile_serialization=False)


def _training(folder: Path) -> Example:
    model = nn.DataParallel(Model())
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    content = {"model": model.state_dict(), "optim": optimizer.state_dict(), "epoch": 3, "best": np.float64(0.25)}
    return _saved(folder / "last.chkpt", content, "model.module.lstm", model.module.lstm)


def _lightning(folder: Path) -> Example:
    model = Model()
    content = {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": collections.OrderedDict((f"model.{name}", a) for name, a in model.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.Path("a.ckpt"), "scores": np.arange(3.0)}},
        "optimizer_states": [{"class": torch.optim.Adam}],
        "hyper_parameters": {"args": argparse.Namespace(hidden=5), "loss": nn.MSELoss()},
    }
    return _saved(folder / "epoch=3.ckpt", content, "state_dict.model.lstm", model.lstm)


def _whole_module(folder: Path) -> Example:
    model = Model()
    return _saved(folder / "model.pt", model, "lstm", model.lstm)


def _script(folder: Path) -> Example:
    model = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(model).save(str(folder / "model.pt"))
    return Example(folder / "model.pt", {"lstm": of_torch(model.lstm)})


def _pickle_of_tensors(folder: Path) -> Example:
    model = Model()
    (folder / "model.pkl").write_bytes(pickle.dumps(model.state_dict()))
    return Example(folder / "model.pkl", {"lstm": of_torch(model.lstm)})


def _pickle_of_arrays(folder: Path) -> Example:
    model = Model()
    content = {"model": {name: tensor.numpy() for name, tensor in model.state_dict().items()}, "iteration": 7}
    (folder / "model.pkl").write_bytes(pickle.dumps(content, protocol=5))
    return Example(folder / "model.pkl", {"model.lstm": of_torch(model.lstm)})


def _baselines(folder: Path) -> Example:
    model, buffer = Model(), BytesIO()
    torch.save({f"lstm_actor.{name}": a for name, a in model.lstm.state_dict().items()}, buffer)
    with zipfile.ZipFile(folder / "agent.zip", "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("system_info.txt", "Python")
        archive.writestr("policy.pth", buffer.getvalue())
    return Example(folder / "agent.zip", {"policy.lstm_actor": of_torch(model.lstm)})


def _weight_norm_old(folder: Path) -> Example:
    model = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for name in ("weight_ih_l0", "weight_hh_l1", "bias_hh_l0"):
            weight_norm(model.lstm, name, dim=1 if name == "weight_ih_l0" else 0)
        weight_norm(model.lstm, "weight_hh_l0", dim=None)
    model(torch.zeros(1, 1, 3, dtype=torch.float64))  # computes the weights
    return _saved(folder / "model.pt", model.state_dict(), "lstm", model.lstm)


def _weight_norm_new(folder: Path) -> Example:
    model = CellModel()
    parametrizations.weight_norm(model.cell, "weight_hh")
    parametrizations.weight_norm(model.cell, "weight_ih", dim=1)
    return _saved(folder / "model.pt", model.state_dict(), "cell", model.cell)


def _pruned(folder: Path) -> Example:
    model = CellModel()
    prune.l1_unstructured(model.cell, "weight_hh", 0.3)
    prune.random_unstructured(model.cell, "weight_hh", 0.2)
    return _saved(folder / "model.pt", model.state_dict(), "cell", model.cell)


def _weight_drop(folder: Path) -> Example:
    """Write awd-lstm-lm's WeightDrop: the wrapped LSTM has the raw weight, and a copy with half of it dropped."""
    model = Model()
    state = {f"rnns.0.module.{name}": a for name, a in model.lstm.state_dict().items()}
    name = "rnns.0.module.weight_hh_l0"
    state |= {f"{name}_raw": state[name], name: nn.functional.dropout(state[name], 0.5)}
    return _saved(folder / "model.pt", state, "rnns.0.module", model.lstm)


def _weight_drop_fastai(folder: Path) -> Example:
    """Write fastai's WeightDropout: the module around the LSTM has the raw weight."""
    model = Model()
    state = {f"0.rnns.0.module.{name}": a for name, a in model.lstm.state_dict().items()}
    state["0.rnns.0.weight_hh_l0_raw"] = state.pop("0.rnns.0.module.weight_hh_l0")
    return _saved(folder / "model.pth", {"model": state, "opt": {}}, "model.0.rnns.0.module", model.lstm)


def _quantized(folder: Path) -> Example:
    """Write torch's dynamic quantization: integers, packed by layer and direction."""
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves it to another package
        plain = nn.ModuleDict({"lstm": nn.LSTM(**SIZES, num_layers=2, bidirectional=True, batch_first=True)})
        model = torch.ao.quantization.quantize_dynamic(plain.eval(), {nn.LSTM}, dtype=torch.qint8)
        torch.save(model.state_dict(), folder / "model.pt")
        cells = [cell.param.__getstate__()[0][4] for cell in model["lstm"]._all_weight_values]
        held = [array for cell in cells for part in cell for array in part.__getstate__()[0]]
        state = {
            f"{array}_{to}_l{layer}{suffix}": held.pop(0).dequantize()
            for layer in range(2)
            for suffix in ("", "_reverse")
            for to in ("ih", "hh")
            for array in ("weight", "bias")
        }
    plain["lstm"].load_state_dict(state)
    return Example(folder / "model.pt", {"lstm": of_torch(plain["lstm"])})


def _refused(folder: Path, state: dict[str, torch.Tensor], words: str) -> Example:
    torch.save(state, folder / "model.pt")
    return Example(folder / "model.pt", {}, words)


def _orthogonal(folder: Path) -> Example:
    model = Model()
    parametrizations.orthogonal(model.lstm, "weight_hh_l0")
    return _refused(folder, model.state_dict(), "weight_hh_l0 is under torch.nn.utils.parametrizations.orthogonal")


def _spectral(folder: Path) -> Example:
    model = CellModel()
    parametrizations.spectral_norm(model.cell, "weight_hh")
    return _refused(folder, model.state_dict(), "weight_hh is under torch.nn.utils.parametrizations.spectral_norm")


def _spectral_old(folder: Path) -> Example:
    model = CellModel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        spectral_norm(model.cell, "weight_hh")
    return _refused(folder, model.state_dict(), "torch.nn.utils.remove_spectral_norm(module, 'weight_hh')")


class _Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def _own_parametrization(folder: Path) -> Example:
    model = Model()
    torch.nn.utils.parametrize.register_parametrization(model.lstm, "weight_ih_l1", _Double(), unsafe=True)
    return _refused(folder, model.state_dict(), "a parametrization that the file does not name (it has original)")


def _more_in_a_cell(folder: Path) -> Example:
    model = CellModel(ln_ih=nn.LayerNorm(20), ln_hh=nn.LayerNorm(20))
    words = (
        "this is no plain nn.LSTMCell: under the same prefix lie cell.ln_hh.bias, cell.ln_hh.weight, cell.ln_ih.bias"
    )
    return _refused(folder, model.state_dict(), words)


def _gru(folder: Path) -> Example:
    return _refused(folder, nn.GRU(3, 5).state_dict(), "only LSTMs are checked here")


def _safetensors(folder: Path) -> Example:
    model = Model()
    save_file(dict(model.state_dict()), folder / "weights.bin")
    return Example(folder / "weights.bin", {"lstm": of_torch(model.lstm)})


def _shards(folder: Path, name: str, ending: str, save: Callable) -> Example:
    model = Model()
    state = dict(model.state_dict())
    places = {entry: f"{name}-0000{1 + n % 2}-of-00002.{ending}" for n, entry in enumerate(state)}
    for place in set(places.values()):
        save({entry: state[entry] for entry in state if places[entry] == place}, folder / place)
    (folder / f"{name}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return Example(folder / f"{name}.{ending}.index.json", {"lstm": of_torch(model.lstm)})


def _one_shard(folder: Path) -> Example:
    _shards(folder, "model", "safetensors", save_file)
    words = "this is shard 2 of 2. Give the index, model.safetensors.index.json"
    return Example(folder / "model-00002-of-00002.safetensors", {}, words)


def _npz(folder: Path) -> Example:
    model = Model()
    np.savez_compressed(
        folder / "a.npz", **{name.replace(".", "/"): a.numpy() for name, a in model.state_dict().items()}
    )
    return Example(folder / "a.npz", {"lstm": of_torch(model.lstm)})


def _npz_of_objects(folder: Path) -> Example:
    np.savez(folder / "a.npz", x=np.array([{}], dtype=object))
    return Example(folder / "a.npz", {}, "its array 'x' holds Python objects")


def _bytes(folder: Path, name: str, content: bytes, words: str) -> Example:
    (folder / name).write_bytes(content)
    return Example(folder / name, {}, words)


def _tar(folder: Path) -> Example:
    with tarfile.open(folder / "model.pth.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    return Example(folder / "model.pth.tar", {}, "it is a tar archive")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
KINDS = (
    Kind("`torch.save` of a state dict", READ, _state_dict),
    Kind("a state dict in torch's format before 1.6", READ, _old_format),
    Kind("a training checkpoint, with DataParallel, Adam and NumPy's numbers", READ, _training),
    Kind("Lightning's, with hyperparameters of any class", READ, _lightning),
    Kind("`torch.save` of a whole module", READ, _whole_module),
    Kind("TorchScript", READ, _script),
    Kind("a pickle of tensors", READ, _pickle_of_tensors),
    Kind("a pickle of NumPy arrays", READ, _pickle_of_arrays),
    Kind("Stable-Baselines3's zip archive", READ, _baselines),
    Kind("safetensors", READ, _safetensors),
    Kind("the index of safetensors in shards", READ, lambda f: _shards(f, "model", "safetensors", save_file)),
    Kind("the index of torch files in shards", READ, lambda f: _shards(f, "pytorch_model", "bin", torch.save)),
    Kind("NumPy's `.npz`", READ, _npz),
    Kind("Keras's `.keras`", READ, foreign.keras_archive, True),
    Kind("Keras's `.weights.h5`", READ, foreign.keras_weights, True),
    Kind("Keras 2's `.h5` of a whole model", READ, lambda f: foreign.keras_old(f, 0), True),
    Kind("Keras 2's `.h5` or `.hdf5` of weights", READ, lambda f: foreign.keras_old(f, 1), True),
    Kind("CuDNNLSTM of Keras 2", READ, foreign.cudnn_lstm, True),
    Kind("an ONNX model", READ, foreign.onnx_model),
    Kind("an ONNX model with a network per branch of an If", READ, foreign.onnx_branches),
    Kind("`torch.nn.utils.weight_norm`", FOLDED, _weight_norm_old),
    Kind("`torch.nn.utils.parametrizations.weight_norm`", FOLDED, _weight_norm_new),
    Kind("`torch.nn.utils.prune`", FOLDED, _pruned),
    Kind("WeightDrop of awd-lstm-lm", FOLDED, _weight_drop),
    Kind("WeightDrop of fastai", FOLDED, _weight_drop_fastai),
    Kind("dynamic quantization", FOLDED, _quantized),
    Kind("`parametrizations.orthogonal`", REFUSED, _orthogonal),
    Kind("`parametrizations.spectral_norm`", REFUSED, _spectral),
    Kind("`torch.nn.utils.spectral_norm`", REFUSED, _spectral_old),
    Kind("a parametrization of your own", REFUSED, _own_parametrization),
    Kind("an LSTM or a cell with more under its prefix: layer norms, peepholes", REFUSED, _more_in_a_cell),
    Kind("a GRU or an RNN", REFUSED, _gru),
    Kind("a layer of Keras's with another activation", REFUSED, foreign.keras_other_activation),
    Kind("an LSTM node of ONNX with clip, peepholes or other activations", REFUSED, foreign.onnx_refused),
    Kind("one shard of several", REFUSED, _one_shard),
    Kind("an `.npz` of Python objects", REFUSED, _npz_of_objects),
    Kind(
        "one array, `.npy`", REFUSED, lambda f: _bytes(f, "a.npy", b"\x93NUMPY\x01\x00", "it is one array of NumPy's")
    ),
    Kind("a pointer of Git LFS", REFUSED, lambda f: _bytes(f, "a.bin", LFS, "it is a pointer of Git LFS")),
    Kind("a web page", REFUSED, lambda f: _bytes(f, "a.pt", b"<!DOCTYPE html>", "it is a page of a web site")),
    Kind("gzip, bzip2, xz, zstd", REFUSED, lambda f: _bytes(f, "a.gz", b"\x1f\x8b\x08", "it is compressed by gzip")),
    Kind("a tar archive", REFUSED, _tar),
    Kind("GGUF", REFUSED, lambda f: _bytes(f, "a.gguf", b"GGUF\x03", "it is a GGUF file")),
)
