"""Tensors and arrays as a pickle describes them, and the names that stand for them in a pickle.

A :class:`Tensor` is a window on a storage, whose bytes lie elsewhere in the file. Nothing is copied until
:mod:`crosscheck.studies.checkpoint.tensors` makes an array of it.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from crosscheck.studies.checkpoint.pickles import NAME_LENGTH, BadPickle, Global, Inert, Make, flat_key

Fetch = Callable[[], Any]  # the bytes of a storage, as a buffer

# torch's names of storages, and of dtypes, with the dtype that NumPy or ml_dtypes has for them
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8", "QUInt8Storage": "uint8", "QInt32Storage": "int32",
}  # fmt: skip
_NARROW = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
_DTYPES = {
    **{name: np.dtype(name) for name in STORAGES.values() if name != "bfloat16"},
    **{name: np.dtype(name) for name in ("uint16", "uint32", "uint64")},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _NARROW},
}


AXES = 32  # the most that NumPy's arrays had for long


@dataclass(frozen=True, eq=False)
class Storage:
    """``count`` numbers of one dtype in a row."""

    dtype: np.dtype
    fetch: Fetch
    count: int

    @property
    def size(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Scheme:
    """The numbers of a quantized tensor are ``(integer - zero_point) * scale``, both along ``axis`` if it is given."""

    scale: Any
    zero_point: Any
    axis: int | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A window on a storage, in elements, as ``torch._utils._rebuild_tensor_v2`` takes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conj: bool = False
    neg: bool = False
    scheme: Scheme | None = None

    def __post_init__(self) -> None:
        sizes = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or len(self.shape) > AXES:
            raise BadPickle(f"a tensor has {len(self.shape)} axes and {len(self.strides)} strides")
        if any(type(size) is not int or not 0 <= size < 2**63 for size in sizes):
            raise BadPickle("a tensor has a size that is no number of 63 bits")
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if self.elements and self.offset + last >= self.storage.count:
            raise BadPickle(f"a tensor of shape {self.shape} reaches beyond its storage of {self.storage.count}")

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class PickledArray:
    """A NumPy array, which a pickle makes empty first and fills with a state afterwards."""

    array: np.ndarray | None = None
    kind: str = "objects"  # of what it is an array, if not of numbers


_NUMBERS = re.compile(r"[biufc]\d{1,2}")


@dataclass
class PickledDtype:
    """NumPy's dtype, "f4", which gets its byte order as a state."""

    name: str
    order: str = "="

    def resolve(self) -> np.dtype | None:
        """Return the dtype if it is one of numbers, which NumPy may make of any bytes."""
        if not isinstance(self.name, str) or not _NUMBERS.fullmatch(self.name):
            return None
        try:
            return np.dtype(self.name).newbyteorder("<" if self.order == "<" else ">" if self.order == ">" else "=")
        except TypeError:
            return None


def storage_of(identity: Any, fetch: Callable[[str, int], Fetch]) -> Storage | Inert:
    """Return the storage of torch's persistent id, ("storage", class, key, location, count, ...).

    One of a class without a dtype here, such as four-bit integers, is an :class:`Inert`.

    ``fetch(key, size)`` gives a function that returns the storage's bytes.
    """
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise BadPickle("a persistent id is not a storage of torch's")
    _, kind, key, _, count = identity[:5]
    if not isinstance(kind, Global) or type(count) is not int or count < 0 or not is_key(key):
        raise BadPickle("the persistent id of a storage has no class, key or count")
    name = STORAGES.get(kind.name.rpartition(".")[2])
    if name is None or not kind.name.startswith("torch"):
        return Inert(kind.name)
    dtype = _DTYPES[name]
    return Storage(dtype, fetch(str(key), count * dtype.itemsize), count)


def is_key(key: Any) -> bool:
    """Whether this may be the key of a storage. Nothing else of a file is made text."""
    return (type(key) is str and len(key) <= NAME_LENGTH) or type(key) is int


def _tensor(args: Sequence[Any]) -> Any:
    storage, offset, shape, strides = args[:4]
    metadata = args[6] if len(args) > 6 and isinstance(args[6], dict) else {}
    if not isinstance(storage, Storage):
        return storage if isinstance(storage, Inert) else Inert("torch.Tensor", args)
    if not all(isinstance(sizes, (list, tuple)) and len(sizes) <= AXES for sizes in (shape, strides)):
        raise BadPickle("a tensor has a shape that is no list of sizes")
    conj, neg = (bool(metadata.get(name)) for name in ("conj", "neg"))
    return Tensor(storage, offset, tuple(shape), tuple(strides), conj, neg)


def _tensor_with_dtype(args: Sequence[Any]) -> Any:
    """``_rebuild_tensor_v3``: the storage is bytes, and the dtype stands beside it."""
    dtype = _DTYPES.get(args[6].name.removeprefix("torch.")) if isinstance(args[6], Global) else None
    storage = args[0]
    if dtype is None or not isinstance(storage, Storage):
        return Inert("torch._utils._rebuild_tensor_v3", args)
    typed = replace(storage, dtype=dtype, count=storage.size // dtype.itemsize)
    return _tensor((typed, *args[1:6], *args[7:]))


def _quantized(args: Sequence[Any]) -> Any:
    """``_rebuild_qtensor(storage, offset, size, stride, (kind, scale, zero_point[, axis]), ...)``."""
    kind, *values = args[4]
    name = kind.name if isinstance(kind, Global) else ""
    if name == "torch.per_tensor_affine" and all(isinstance(value, (int, float)) for value in values):
        scheme = Scheme(*values)
    elif name == "torch.per_channel_affine" and all(isinstance(value, Tensor) for value in values[:2]):
        scheme = Scheme(values[0], values[1], values[2])
    else:
        return Inert(f"torch._utils._rebuild_qtensor ({name})", args)
    tensor = _tensor(args[:4])
    return replace(tensor, scheme=scheme) if isinstance(tensor, Tensor) else tensor


def _of_subclass(args: Sequence[Any]) -> Any:
    """``_rebuild_from_type_v2(function, type, args, state)``: what the function gives, in a subclass of Tensor."""
    maker = KNOWN.get(args[0].name) if isinstance(args[0], Global) else None
    return maker(args[2]) if maker else Inert(args[1].name if isinstance(args[1], Global) else "a tensor", args)


def _mapping(args: Sequence[Any]) -> Any:
    given = args[-1] if args else ()
    if isinstance(given, dict):
        return dict(given)
    if isinstance(given, (list, tuple)) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in given):
        return {flat_key(key, number): value for number, (key, value) in enumerate(given)}
    return {}


def _sequence(args: Sequence[Any]) -> list[Any]:
    return list(args[0]) if args and isinstance(args[0], (list, tuple)) else []


def _object(args: Sequence[Any]) -> Inert:
    """``copyreg._reconstructor(class, base, state)``. The state of a subclass of dict or list is its content."""
    made = Inert(args[0].name if isinstance(args[0], Global) else "an object")
    if isinstance(args[2], dict):
        made.entries.update(args[2])
    elif isinstance(args[2], (list, tuple)):
        made.items.extend(args[2])
    return made


def _encoded(args: Sequence[Any]) -> bytes:
    """``_codecs.encode(text, "latin1")``: bytes, as protocol 2 writes them."""
    if len(args) != 2 or not isinstance(args[1], str) or args[1] not in ("latin1", "latin-1"):
        raise BadPickle("bytes are in another encoding than latin1")
    return codecs.encode(args[0], "latin-1")


def _no_bytes(args: Sequence[Any]) -> bytes:
    """``bytes()``, as protocol 2 writes them if there are none."""
    if args:
        raise BadPickle("bytes are made of something else than text")
    return b""


def _numpy_scalar(args: Sequence[Any]) -> Any:
    dtype = args[0].resolve() if isinstance(args[0], PickledDtype) else None
    made = PickledArray()
    if dtype is not None and len(args) > 1:
        made.array = _from_bytes(args[1], dtype, ())
    return made


def _from_bytes(data: Any, dtype: np.dtype, shape: tuple[int, ...], *, by_columns: bool = False) -> np.ndarray:
    if isinstance(data, str):  # Python 2 had no bytes
        data = data.encode("latin-1")
    if len(shape) > AXES or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise BadPickle("an array has a shape that is no list of sizes")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise BadPickle(f"an array of shape {shape} has {len(data)} bytes")
    return np.ndarray(shape, dtype, data, order="F" if by_columns else "C")


def _numpy_array(args: Sequence[Any]) -> PickledArray:
    """``_frombuffer(bytes, dtype, shape, order)``, as protocol 5 writes arrays."""
    data, dtype, shape, order = args
    made = PickledArray()
    resolved = dtype.resolve() if isinstance(dtype, PickledDtype) else None
    if resolved is not None and isinstance(data, (bytes, bytearray)):
        made.array = _from_bytes(data, resolved, tuple(shape), by_columns=order == "F")
    return made


def set_state(value: Any, state: Any) -> None:
    """Fill what NumPy makes empty first: (version, shape, dtype, by columns, bytes), and (version, byte order, ...)."""
    if isinstance(value, PickledArray):
        _, shape, dtype, by_columns, data = state
        resolved = dtype.resolve() if isinstance(dtype, PickledDtype) else None
        if isinstance(dtype, PickledDtype) and isinstance(dtype.name, str) and not dtype.name.startswith("O"):
            value.kind = f"dtype {dtype.name[:20]}"
        if resolved is not None and isinstance(data, (bytes, bytearray, str)):
            value.array = _from_bytes(data, resolved, tuple(shape), by_columns=bool(by_columns))
    elif isinstance(value, PickledDtype) and isinstance(state, tuple) and len(state) > 1:
        value.order = state[1] if state[1] in (">", "<") else "="
    elif not isinstance(value, Tensor):  # whose state is Python's attributes
        raise TypeError


_LISTS = (
    "restore_type_tag",
    "build_tensorlist",
    "build_intlist",
    "build_doublelist",
    "build_boollist",
)  # TorchScript's
_NUMPY = ("numpy.core", "numpy._core")
KNOWN: dict[str, Make] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_device_tensor_from_numpy": lambda args: args[0],
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda args: args[0],
    "torch._utils._rebuild_parameter": lambda args: args[0],
    "torch.nn.parameter.Parameter": lambda args: args[0],
    "torch._utils._rebuild_parameter_with_state": lambda args: args[0],
    "torch._tensor._rebuild_from_type": _of_subclass,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
    "torch.Size": lambda args: tuple(_sequence(args)),
    **{f"torch.jit._pickle.{name}": lambda args: args[0] for name in _LISTS},
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "collections.Counter": _mapping,
    **{f"{home}.set": _sequence for home in ("builtins", "__builtin__")},
    **{f"{home}.frozenset": _sequence for home in ("builtins", "__builtin__")},
    "_codecs.encode": _encoded,
    **{f"{home}.bytes": _no_bytes for home in ("builtins", "__builtin__")},
    "copyreg._reconstructor": _object,
    "copy_reg._reconstructor": _object,
    "numpy.dtype": lambda args: PickledDtype(args[0]),
    **{f"{home}.multiarray._reconstruct": lambda args: PickledArray() for home in _NUMPY},
    **{f"{home}.multiarray.scalar": _numpy_scalar for home in _NUMPY},
    **{f"{home}.numeric._frombuffer": _numpy_array for home in _NUMPY},
}
