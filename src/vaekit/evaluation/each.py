"""Numbers of every example of a split, batch by batch: resumable, with progress, and the same for any batch size."""

# N examples, B batch

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vaekit.data.batch import Batch, Split
from vaekit.evaluation.passes import Plan, batches, measuring
from vaekit.files import write_atomically
from vaekit.models.vae import VAE

# from a model and a batch to numbers of its examples, each of shape (B, ...); it draws the noise of an example from the
# plan's seed and the example's index, and from nothing else
Measure = Callable[[VAE, Batch, Plan], Mapping[str, Tensor]]
# done, of how many
Tell = Callable[[int, int], None]

_SECONDS_BETWEEN_WRITES = 10.0
_DIGEST = "__sha256__"  # of the other tensors of a ledger's file


class Ledger:
    """The numbers of the examples that are done, in a file: a measurement that was killed goes on where it stood.

    A file that is damaged, or is not there, is no ledger: the measurement begins anew. Where the folder cannot be written, a
    warning says so and the measurement goes on without.

    Arguments:
        folder: Of all ledgers of a run; made when first written to.
        name: Of the measurement, for the file.
        key: All that the numbers depend on (weights, data, settings, seed), as JSON values. Another key is another file.
    """

    def __init__(self, folder: Path, name: str, key: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{name}-{digest[:16]}.safetensors"
        self._written = time.monotonic()
        self._writable = True

    def read(self) -> dict[str, Tensor]:
        """The numbers so far, each (n, ...) for the first n examples; empty if there are none that can be read."""
        with suppress(OSError):
            for draft in self.path.parent.glob(f".{self.path.name}.*.draft"):
                draft.unlink()  # of a process that was killed while it wrote
        try:
            content = self.path.read_bytes()
        except OSError:
            return {}
        try:
            columns = load(content)
        except (SafetensorError, ValueError, KeyError) as error:
            return self._refused(str(error))
        digest = columns.pop(_DIGEST, None)
        if digest is None or not torch.equal(digest, _digest(columns)):
            return self._refused("its checksum is not that of its numbers")
        if len({len(column) for column in columns.values()}) != 1:
            return self._refused("its columns are not of one length")
        return columns

    def write(self, columns: Mapping[str, Tensor]) -> None:
        """Replace the file."""
        self._written = time.monotonic()
        if not self._writable:
            return
        whole = {name: column.contiguous() for name, column in columns.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = save({**whole, _DIGEST: _digest(whole)})
            try:
                write_atomically(self.path, content)
            except FileNotFoundError:  # another process measures the same, and took our draft for one of the dead
                write_atomically(self.path, content)
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"{self.path} cannot be written ({error.strerror or error}): what is measured is not kept, and an interruption "
                "costs all of it.",
                stacklevel=2,
            )

    @property
    def due(self) -> bool:
        """Whether enough would be lost by now to write again."""
        return time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES

    def _refused(self, why: str) -> dict[str, Tensor]:
        warnings.warn(f"{self.path} is damaged ({why}): it is measured anew.", stacklevel=3)
        return {}


def _digest(columns: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 over names, types, shapes and values, as 32 bytes."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name].contiguous()
        digest.update(repr((name, str(column.dtype), tuple(column.shape))).encode())
        digest.update(column.reshape(-1).view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def each(
    model: VAE,
    split: Split,
    plan: Plan,
    measure: Measure,
    *,
    ledger: Ledger | None = None,
    tell: Tell | None = None,
) -> dict[str, Tensor]:
    """Measure every example of a split, in evaluation mode and without gradients (a measure may switch them on).

    Batches begin at the same examples whether or not the measurement was interrupted: with the same plan, the numbers are the
    same bit for bit.

    Arguments:
        model: On the device of the split.
        split: The examples.
        plan: `plan.batch_size` examples at a time; the numbers do not depend on it beyond rounding.
        measure: Gives the numbers of a batch.
        ledger: Where numbers are kept, so that what is done is not done twice.
        tell: Called with how many examples are done, of how many: at the beginning, and after each batch.

    Returns:
        By name, float64 on the CPU, shape (N, ...).
    """
    columns = {} if ledger is None else ledger.read()
    done = kept = len(next(iter(columns.values()))) if columns else 0
    if done > len(split):  # of other examples: the key of the ledger does not say all that it should
        columns, done, kept = {}, 0, 0
    parts = {name: [column] for name, column in columns.items()}
    if tell is not None:
        tell(done, len(split))
    try:
        with measuring(model):
            for batch in batches(split, plan, start=done):
                for name, value in measure(model, batch, plan).items():
                    parts.setdefault(name, []).append(value.detach().cpu().double())
                done += len(batch.index)
                if tell is not None:
                    tell(done, len(split))
                if ledger is not None and ledger.due:
                    _keep(ledger, parts, done)
                    kept = done
    finally:
        if ledger is not None and done > kept:
            _keep(ledger, parts, done)
    return {name: torch.cat(part) for name, part in parts.items()}


def _keep(ledger: Ledger, parts: Mapping[str, list[Tensor]], done: int) -> None:
    # an interruption between two columns of a batch leaves one of them longer
    ledger.write({name: torch.cat(part)[:done] for name, part in parts.items()})
