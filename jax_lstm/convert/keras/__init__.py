"""Keras's LSTM, of Keras 2 and 3: lists of weights, layer and model objects, and files.

``converters`` has the public functions, which users import from ``jax_lstm.convert``. ``layer_configs`` and
``model_configs`` read configurations, ``objects`` reads Keras's objects, ``files`` tells the kinds of files apart,
``keras2_files`` and ``weights_files`` read them, and ``cell_arrays`` has the layout of one cell. No file here may
import Keras, run or deserialise anything that a file names, or take memory that a file only declares.
"""

from jax_lstm.convert.keras.converters import from_keras, keras_networks, to_keras
from jax_lstm.convert.keras.inventory import KerasRefusal

__all__ = ["KerasRefusal", "from_keras", "keras_networks", "to_keras"]
