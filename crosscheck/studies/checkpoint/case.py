"""An LSTM of a checkpoint as a case of the suite: its real weights, random inputs."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count

from crosscheck.lstm.cases import RecurrentCase
from crosscheck.studies.checkpoint.networks import FoundLSTM


def case_of(lstm: FoundLSTM) -> RecurrentCase:
    """Return the LSTM over a batch of sequences. Their sizes differ from the network's and from one another.

    A transposed or swapped axis then meets a size that does not fit, unless the network itself has two equal ones.
    A cell runs as one layer over time.
    """
    network = lstm.network
    taken = {network.input_size, network.hidden_size, network.output_size, network.directions * network.output_size}
    steps = next(n for n in count(20) if n not in taken)
    batch = next(n for n in count(3) if n not in taken | {steps})
    return RecurrentCase(
        lstm.name, f"{lstm.kind} of a checkpoint", batch, steps, **asdict(network), weights=lstm.stack_params
    )
