"""Reads a Keras file in a process of its own: HDF5's library can crash on a file whose bytes were overwritten.

The file's path is the only argument. The process writes a pickle to stdout. It has, by layer, the arrays by torch's
names, or (reason, whether it is an LSTM). If the file is refused as a whole, the pickle is (reason, whether a package
is missing).
"""

from __future__ import annotations

import os
import pickle
import sys

import jax
import numpy as np

from jax_lstm.convert import KerasRefusal, keras_networks


def main(path: str) -> dict[str, object] | tuple[str, bool]:
    """Return what is to be written."""
    jax.config.update("jax_enable_x64", True)  # without it, float64 weights would be refused
    _limit_memory(2**31 + 8 * os.stat(path).st_size)
    try:
        networks = keras_networks(path)
    except ImportError as error:
        return str(error), True
    except (ValueError, TypeError, OSError) as error:
        return str(error), False
    except MemoryError:
        return f"{path}: it declares more numbers than a file of its size has", False
    return {
        name: (network.reason, network.is_lstm)
        if isinstance(network, KerasRefusal)
        else {entry: np.asarray(array) for entry, array in network.items()}
        for name, network in networks.items()
    }


def _limit_memory(limit: int) -> None:
    """Make a request for more than ``limit`` bytes a MemoryError. A small file may declare many large arrays."""
    try:
        import resource
    except ImportError:  # not on this system
        return
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(main(sys.argv[1])))
