"""Writing files so that a reader, or a kill at any moment, finds the old content or the new and never a part.

And JSON that every reader takes.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DRAFT = re.compile(r"\..+\.\d+-\d+\.draft")


def write_atomically(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Replace `path` by `content`, which may come in pieces: a temporary file beside it, fsync, one rename.

    Raises:
        OSError: If the folder cannot be written; nothing is left behind.
    """
    # not tempfile.mkstemp: it makes files that nobody else may read, and run folders are shared
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_durably(descriptor, content)
        finally:
            os.close(descriptor)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # of the file that was meant, not of its draft
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_drafts(folder: Path) -> None:
    """Remove what `write_atomically` left in `folder` when the process was killed."""
    for path in folder.iterdir():
        if _DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


def is_folder_name(name: str) -> bool:
    """Whether `name` stays below the folder that it is joined to: no `..`, nothing absolute, no control characters."""
    parts = re.split(r"[/\\]", name) if os.name == "nt" else name.split("/")
    return name.isprintable() and not any(part in ("", ".", "..") for part in parts) and not Path(name).drive


def as_json(content: Any, indent: int | None = None) -> str:
    """JSON as the standard has it: a number that is not finite, for which there is no word in it, becomes null."""
    return json.dumps(_sayable(content), indent=indent, ensure_ascii=False, allow_nan=False)


def write_durably(descriptor: int, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Write all of `content`, which may come in pieces, and wait until it is on the disk."""
    for piece in [content] if isinstance(content, bytes) else content:
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _sayable(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _sayable(child) for name, child in content.items()}
    if isinstance(content, (list, tuple)):
        return [_sayable(child) for child in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock on an existing file; gives False where another process has it. The system frees the lock of a dead process."""
    if os.name == "nt":  # no such lock there: the caller goes on as if alone
        yield True
        return
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, where the system can say so."""
    if os.name == "nt":  # a folder cannot be opened there, and renames are durable without it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
