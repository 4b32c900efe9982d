"""The model before the port: plain PyTorch, its training and its checkpoint, without JAX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from examples.files import whole

BYTES = 256


class ByteModel(nn.Module):
    """A network from tokens int `[B, T]` to logits `[B, T, 256]` of the next byte and the LSTM's state (h, c)."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, BYTES)

    def forward(self, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, state = self.lstm(self.embedding(tokens))
        return self.fc(y), state


def nats(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return the mean cross entropy of the next byte, for tokens `[B, T + 1]`."""
    logits, _ = model(tokens[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Callable[[int], Tensor],
    steps: range,
    file: Path,
    every: int,
) -> list[float]:
    """Train on batch(n) for n in ``steps``, from the checkpoint ``file`` if it exists. Return the loss of each step."""
    losses: list[float] = []
    if file.exists():
        stored = torch.load(file, weights_only=True)
        model.load_state_dict(stored["model"])
        optimizer.load_state_dict(stored["optimizer"])
        losses = stored["losses"]
    console = Console(stderr=True)
    remaining = steps[len(losses) :]
    for n in track(remaining, f"torch, {file.stem}", console=console, disable=not console.is_terminal):
        optimizer.zero_grad()
        loss = nats(model, batch(n))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % every == 0 or n == steps[-1]:
            with whole(file) as path:
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}, path)
    return losses[: len(steps)]
