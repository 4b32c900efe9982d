"""ONNX's LSTM: nodes, models and files.

``importer`` and ``exporter`` have the public functions, which users import from ``jax_lstm.convert``. ``model_file``,
``graphs``, ``constants`` and ``operators`` read a model, and ``node_data`` has the layout of one node. No file here may
import onnx before a model is read or written, trust a size that a file declares, or recurse over a file's graphs.
"""

from jax_lstm.convert.onnx.exporter import to_onnx
from jax_lstm.convert.onnx.importer import OnnxLSTM, OnnxRefusal, from_onnx, onnx_networks

__all__ = ["OnnxLSTM", "OnnxRefusal", "from_onnx", "onnx_networks", "to_onnx"]
