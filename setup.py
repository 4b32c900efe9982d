"""Builds the compiled kernels for a CPU into the package, and makes README.md the description of the package.

pyproject.toml has everything else.

The kernels are one shared library without Python's API, so one file serves every Python. If there is no C++ compiler,
or the compiler cannot build it, the package is still installed, and jax_lstm runs its loops as scan.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import tomllib
from functools import partial
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

FOLDER = Path("jax_lstm/_src/native")
FLAGS = ["-std=c++17", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-Wno-psabi"]
# width.cc is compiled once per width of vectors: bytes, namespace, flags.
WIDTHS = [("16", "baseline", [])]
if platform.machine() in ("x86_64", "AMD64"):
    WIDTHS += [
        ("32", "avx2", ["-mavx2", "-mfma"]),
        ("64", "avx512", ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"]),
    ]
# The library contains the parts of the C++ library that it uses, so it does not depend on the installed release.
STATIC = ["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL", "-s"]


class BuildKernels(build_ext):
    """Compile width.cc for each width, and link all objects into a library that is not a Python module."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        found = importlib.util.find_spec("jaxlib")
        if found is None or not found.submodule_search_locations:
            raise CompileError("the headers of jaxlib are not here")
        headers = ["-isystem", str(Path(found.submodule_search_locations[0]) / "include")]
        objects = []
        for bytes_, name, flags in WIDTHS:
            objects += self.compiler.compile(
                [str(FOLDER / "width.cc")],
                output_dir=str(Path(self.build_temp) / name),
                macros=[("JAX_LSTM_BYTES", bytes_), ("JAX_LSTM_WIDTH", name)],
                extra_postargs=[*FLAGS, *flags],
            )
        rest = [str(FOLDER / "widths.cc"), str(FOLDER / "handlers.cc")]
        objects += self.compiler.compile(rest, output_dir=self.build_temp, extra_postargs=[*FLAGS, *headers])
        target = self.get_ext_fullpath(ext.name)
        link = partial(self.compiler.link_shared_object, objects, target, target_lang="c++")
        try:
            link(extra_postargs=STATIC if platform.system() == "Linux" else [])
        except LinkError:  # some systems have the C++ library only as a shared one
            link()

    def run(self) -> None:
        # A build that fails must not leave the file of an earlier one.
        Path(self.get_ext_fullpath(kernels.name)).unlink(missing_ok=True)
        if self.editable_mode:  # the file is copied into the source tree
            (FOLDER / "libjax_lstm_cpu.so").unlink(missing_ok=True)
        super().run()


class Wheel(bdist_wheel):
    """A wheel for every Python: of this platform with the kernels, and of any platform without them."""

    def get_tag(self) -> tuple[str, str, str]:
        built = any(Path(self.bdist_dir).rglob("libjax_lstm_cpu.so"))
        return ("py3", "none", super().get_tag()[2] if built else "any")


def description() -> str:
    """Return README.md with absolute links. A package index shows the text without the files beside it.

    The links lead to the files of this release. Code in fences stays as it is.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository, tag = project["urls"]["Repository"], f"v{project['version']}"

    def absolute(found: re.Match[str]) -> str:
        target = found["target"]
        if target.startswith("#"):
            target = f"README.md{target}"
        kind = "raw" if target.endswith((".gif", ".jpg", ".png", ".svg")) else "blob"
        return f"{found['before']}{repository}/{kind}/{tag}/{target}"

    text = re.split(r"(^```.*?^```$)", Path("README.md").read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    relative = r"(?P<before>\]\(|^\[[^]]+\]: *|(?:href|src|srcset)=\")(?!\w+:|//)(?P<target>[^)\s\"]+)"
    text[::2] = [re.sub(relative, absolute, part, flags=re.MULTILINE) for part in text[::2]]
    return "".join(text)


kernels = Extension(
    "jax_lstm._src.native.libjax_lstm_cpu",
    sources=[str(path) for path in sorted(FOLDER.glob("*.cc"))],
    depends=[str(path) for path in sorted(FOLDER.glob("*.h"))],
    language="c++",
    optional=True,
)
setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    ext_modules=[kernels],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
