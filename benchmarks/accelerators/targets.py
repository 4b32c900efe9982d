"""The devices that programs are compiled for, and whether their compilers are installed.

JAX compiles for a topology from a description, without the devices. TPU's compiler is in the package libtpu, and CUDA's
in jax-cuda13-pjrt with the tools of nvidia-cuda-nvcc and nvidia-nvvm. `.ci/accelerator-wheels` lists the versions that
fit the installed JAX.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from crosscheck.core.missing import NOT_INSTALLED, installed_version

os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # several processes may compile at once

H100 = Path(__file__).with_name("h100.txtpb")  # what CUDA's compiler needs to know of the device
COMPILERS = {
    "tpu": ("libtpu",),
    "cuda": ("jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cuda-nvcc", "nvidia-nvvm"),
}


class Target(NamedTuple):
    """A kind of device, and how many of them.

    Attributes:
      platform: "tpu" or "cuda", as JAX names it.
      topology: the name of the topology.
      layout: the shape of a topology that has no name.
      one_chip: whether a host has one chip, which the description must say. The target is then one device, although a
      tpu7x chip has two.
    """

    platform: str
    topology: str
    layout: str = ""
    one_chip: bool = False


TARGETS = {
    "v5e": Target("tpu", "v5e:1x1", one_chip=True),
    "v6e": Target("tpu", "v6e:1x1", one_chip=True),
    "v5p": Target("tpu", "v5p:1x1x1", one_chip=True),
    "tpu7x": Target("tpu", "tpu7x:1x1x1", one_chip=True),
    "h100": Target("cuda", "", "1x1x1"),
    "v5e x 4": Target("tpu", "v5e:2x2"),
    "v6e x 4": Target("tpu", "v6e:2x2"),
    "h100 x 4": Target("cuda", "", "1x1x4"),
}


def missing(target: str) -> str:
    """Return why nothing can be compiled for a target here, or "" if it can."""
    absent = [package for package in COMPILERS[TARGETS[target].platform] if installed_version(package) == NOT_INSTALLED]
    return f"not installed: {', '.join(absent)}; `make test-accelerators` installs it" if absent else ""


def compiler_of(target: str) -> str:
    """Return the package and version of a target's compiler, such as "libtpu 0.0.50.1"."""
    package = COMPILERS[TARGETS[target].platform][0]
    return f"{package} {installed_version(package)}"


@cache
def devices_of(target: str) -> Sequence[jax.Device]:
    """Return the devices of a target.

    Raises:
      RuntimeError: the compiler is not installed.
    """
    if reason := missing(target):
        raise RuntimeError(f"{target}: {reason}")
    platform, topology, layout, one_chip = TARGETS[target]
    options: dict[str, Any] = {"chips_per_host_bounds": [1, 1, 1]} if one_chip else {}
    if layout:
        options = {"topology": layout, "target_config": H100.read_text(encoding="utf-8")}
    devices = topologies.get_topology_desc(platform=platform, topology_name=topology, **options).devices
    return devices[:1] if one_chip else devices
