"""Where the files of a named data set are looked for on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "VAEKIT_DATA"


@dataclass(frozen=True)
class Search:
    """What a search came to.

    Attributes:
        found: Name of each file that was found, and where.
        missing: Names of the others.
        places: Folders that were looked into, in order.
    """

    found: dict[str, Path]
    missing: tuple[str, ...]
    places: tuple[Path, ...]


def search(files: Sequence[str], folders: Sequence[str], roots: Sequence[Path]) -> Search:
    """Look for files below `roots`: the first folder that has all of them gives all of them.

    Arguments:
        files: Published names; `NAME.gz` is found as `NAME` too, and `NAME` as `NAME.xz`.
        folders: Names that people give to the folder of this data set, relative to a root.
        roots: Where to look: the folder itself or one above it, or one of the files.
    """
    places = tuple(dict.fromkeys(place for root in roots for place in _places(root, folders)))
    best: dict[str, Path] = {}
    for place in places:
        found = {name: path for name in files if (path := _in_folder(place, name)) is not None}
        if len(found) > len(best):
            best = found
        if len(found) == len(files):
            break
    return Search(best, tuple(name for name in files if name not in best), places)


def _places(root: Path, folders: Sequence[str]) -> Iterator[Path]:
    folder = root.parent if root.is_file() else root
    # sub-folders first: a folder named for the set says more than files that two sets name alike
    yield from (folder / name for name in folders if (folder / name).is_dir())
    yield folder


def _in_folder(folder: Path, name: str) -> Path | None:
    plain = name.removesuffix(".gz")
    # the last form is how some programs unpack MNIST: train-images.idx3-ubyte
    candidates = (name, plain, plain.replace("-idx", ".idx"), f"{name}.xz")
    return next((folder / c for c in candidates if (folder / c).is_file()), None)


def roots(path: Path | None, name: str) -> tuple[Path, ...]:
    """Where to look for the set `name`: the argument, the variable VAEKIT_DATA, the cache."""
    variable = os.environ.get(VARIABLE)
    given = (path, Path(variable).expanduser() if variable else None)
    return (*(root for root in given if root is not None), cache_folder(name))


def cache_folder(name: str) -> Path:
    """Where a fetched data set is kept: the user's cache folder, by the custom of the platform."""
    return _cache_root() / "vaekit" / name


def _cache_root() -> Path:
    if set_by_user := os.environ.get("XDG_CACHE_HOME"):
        return Path(set_by_user)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"
