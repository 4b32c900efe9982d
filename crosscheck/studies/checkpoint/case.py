"""A found LSTM as a case of the suite: its real weights, random inputs."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count

from crosscheck.lstm.cases import RecurrentCase
from crosscheck.studies.checkpoint.find import Found


def case_of(found: Found) -> RecurrentCase:
    """The LSTM over a batch of sequences whose sizes differ from the network's and from one another.

    A transposed or swapped axis then meets a size that does not fit, unless the network itself has two equal ones.
    A cell runs as one layer over time.
    """
    network = found.network
    taken = {network.input_size, network.hidden_size, network.output_size, network.directions * network.output_size}
    steps = next(n for n in count(20) if n not in taken)
    batch = next(n for n in count(3) if n not in taken | {steps})
    return RecurrentCase(
        found.name,
        f"{found.kind} of a checkpoint",
        batch,
        steps,
        **asdict(network),
        weights=found.stack_params,
    )
