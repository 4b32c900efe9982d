"""What there was before: a model in plain PyTorch, its training and its checkpoint. Nothing in here knows of JAX."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

BYTES = 256


class ByteModel(nn.Module):
    """tokens int [B, T] -> logits [B, T, 256] of the next byte, and the LSTM's (h, c)."""

    def __init__(self, embedding: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(BYTES, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, BYTES)

    def forward(self, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, state = self.lstm(self.embedding(tokens))
        return self.fc(y), state


def nats(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each byte of tokens [B, T + 1] given those before it."""
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
    """Trains through ``steps`` on batch(n), from where ``file`` stands if there is one; each step's loss."""
    losses: list[float] = []
    if file.exists():
        there = torch.load(file, weights_only=True)
        model.load_state_dict(there["model"])
        optimizer.load_state_dict(there["optimizer"])
        losses = there["losses"]
    console = Console(stderr=True)
    left = steps[len(losses) :]
    for n in track(left, f"torch, {file.stem}", console=console, disable=not console.is_terminal):
        optimizer.zero_grad()
        loss = nats(model, batch(n))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % every == 0 or n == steps[-1]:
            aside = file.with_name(f".{file.name}.{os.getpid()}")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}, aside)
            aside.replace(file)
    return losses[: len(steps)]
