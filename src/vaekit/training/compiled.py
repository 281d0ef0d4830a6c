"""Recorded operations given to torch's compiler, which makes a few loops of many small ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from torch import Tensor, fx

from vaekit.data.locate import cache_folder

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_ONEDNN = torch.ops.mkldnn._linear_pointwise.default if hasattr(torch.ops.mkldnn, "_linear_pointwise") else None


@dataclass
class Compiling:
    """Whether the steps of a training are compiled.

    Compiled steps round differently, so it is all or none: from the first that could not be on, none is, also after a resume.

    Attributes:
        wanted: Whether they are to be.
        refused: Why one could not be; empty as long as all could.
    """

    wanted: bool = False
    refused: str = ""

    def __bool__(self) -> bool:
        return self.wanted and not self.refused


def compiled(module: fx.GraphModule) -> Callable[..., Any]:
    """A function that does what `module` does, up to rounding, with the same random numbers.

    It is compiled when it is called for the first time, or read from the cache of an earlier time, which belongs to the user alone.

    Arguments:
        module: Operations of `aten`, none of them with a result in the memory of another.
    """
    _keep_to_the_user()
    for node in module.graph.nodes:
        if _ONEDNN is not None and node.target is _ONEDNN:
            # the compiler takes this operation for one with weights that stay; by another name it is left as it is
            node.target, node.args = _product(), node.args[:3]
    module.recompile()
    # random numbers as torch draws them; headers are kept only where nobody else can have put them
    options: dict[str, Any] = {"fallback_random": True}
    if not _headers_are_safe():
        options["cpp_cache_precompile_headers"] = False
    made: Callable[..., Any] = torch.compile(module, fullgraph=True, dynamic=False, options=options)
    return made


def _keep_to_the_user() -> None:
    """Let the compiler keep what it makes in the user's own cache; torch's folder is one where others may have been before."""
    given = Path(os.environ.get(_VARIABLE, ""))
    if given.name and not (given.parent == Path(gettempdir()) and given.name.startswith("torchinductor_")):
        return  # somebody has chosen it
    folder = cache_folder("compiled")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ[_VARIABLE] = str(folder)


def _headers_are_safe() -> bool:
    """Whether the folder in which torch keeps C++ headers, whatever its cache, belongs to the user alone."""
    try:
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # here: it loads for two seconds
    except ImportError:  # another version of torch
        return False
    folder = Path(default_cache_dir())
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    return hasattr(os, "getuid") and found.st_uid == os.getuid() and not found.st_mode & 0o022


@cache
def _product() -> Any:
    """oneDNN's product of matrices as an operation that the compiler does not know."""
    library = torch.library.Library("vaekit", "DEF")  # type: ignore[no-untyped-call]
    _KEPT.append(library)  # what it has defined goes with it
    library.define("product(Tensor x, Tensor weight, Tensor? bias) -> Tensor")  # type: ignore[no-untyped-call]
    library.impl("product", _multiplied, "CPU")  # type: ignore[no-untyped-call]
    torch.library.register_fake("vaekit::product", _shaped, lib=library)
    return torch.ops.vaekit.product.default


_KEPT: list[Any] = []


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _shaped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0]))


def alike(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whether tensors are the same up to rounding: a thousandth of each one's largest number, a millionth of that of all.

    They must lie alike in memory, as fused optimizers rely on it.
    """
    largest = max((_largest(value) for value in expected if isinstance(value, Tensor)), default=0.0)
    return all(_near(one, other, 1e-6 * largest) for one, other in zip(found, expected, strict=True))


def _near(one: Any, other: Any, slack: float) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype or layout(one) != layout(other):
        return False
    near = (one.double() - other.double()).abs() <= 1e-3 * _largest(other) + slack
    return bool((near | (one == other)).all())


def _largest(value: Tensor) -> float:
    """The largest magnitude that is finite."""
    numbers = value.double().abs()
    numbers = numbers[numbers.isfinite()]
    return float(numbers.max()) if numbers.numel() else 0.0


def layout(value: Tensor) -> list[int]:
    """How far apart neighbours lie; along a dimension of one there are none."""
    return [stride for stride, length in zip(value.stride(), value.shape, strict=True) if length != 1]
