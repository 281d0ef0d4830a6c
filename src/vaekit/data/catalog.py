"""The data sets that have a name: one table, and how an entry becomes a `Dataset`."""

from __future__ import annotations

import hashlib
import lzma
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from vaekit.data.augment import Augmentation
from vaekit.data.batch import Dataset
from vaekit.data.door import Wishes, admit
from vaekit.data.download import RemoteFile, fetch, sha256, verified
from vaekit.data.entries import ENTRIES, Entry
from vaekit.data.errors import DataFormatError, DataNotFoundError, DownloadError
from vaekit.data.locate import VARIABLE, Search, cache_folder, roots, search


def names() -> tuple[str, ...]:
    """Names in the catalogue."""
    return tuple(ENTRIES)


def named(
    name: str,
    path: str | os.PathLike[str] | None = None,
    binarisation: str = "none",
    seed: int = 0,
    resolution: int | None = None,
    augmentation: Mapping[str, Augmentation] | None = None,
) -> Dataset:
    """A published data set with its published or stated split.

    Files are looked for at `path`, then where the environment variable VAEKIT_DATA points to, then in the user's cache; if
    they are not all in one of these, they are fetched into the cache and verified.

    Arguments:
        name: One of `names()`.
        path: A folder that has the files, or one above it, or one of the files; None to look elsewhere only.
        binarisation: none, threshold, dynamic or static.
        seed: Of a static binarisation. The split never depends on it.
        resolution: Side of the squares that all images become: padded with zeros where the longer side is 3/4 of it to all of
            it, and otherwise resized by averaging areas to this longer side, then padded. None to leave their size.
        augmentation: How training images are changed each time they are shown, by a name of yours and in this order.

    Raises:
        ValueError: If the name or the binarisation is unknown, another function reads the set, or `path` is given for one that
            comes with a library.
        DataNotFoundError: If `path` does not exist, or the files are neither found nor to be had.
        DataFormatError: If a file is damaged.
    """
    read = entry_named(name).read
    if isinstance(read, str):  # before anything is fetched in vain
        raise ValueError(f"the data set {name} is {read}")
    entry, files = located(name, path)
    return admit(entry.name, read(files), Wishes(binarisation, seed, resolution, augmentation))


def located(name: str, path: str | os.PathLike[str] | None) -> tuple[Entry, Mapping[str, Path]]:
    """The entry called `name` and its files, by published name: at `path`, elsewhere on this machine, or fetched now.

    Raises:
        ValueError: If the name is unknown, or `path` is given for a set that comes with a library.
        DataNotFoundError: If `path` does not exist, or the files are neither found nor to be had.
        DataFormatError: If a file is that of another set.
    """
    entry = entry_named(name)
    given = None if path is None else Path(path).expanduser()
    if given is not None and not entry.files:
        raise ValueError(f"{name} comes with scikit-learn and is read from no path; leave out data.path.")
    if given is not None and not given.exists():
        raise DataNotFoundError(_not_found(entry, Search({}, _file_names(entry), (given,)), f"{given} does not exist."))
    return entry, _files(entry, given)


def entry_named(name: str) -> Entry:
    """The entry called `name`.

    Raises:
        ValueError: If there is none; the message names the closest ones.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    close = get_close_matches(str(name), ENTRIES, n=2) or list(ENTRIES)
    raise ValueError(
        f"data set is {name!r}, expected one of {', '.join(ENTRIES)}; closest: {', '.join(close)}. "
        "For your own files write data=array data.path=FILE, data=cells data.path=FILE, or data=images data.path=FOLDER; "
        "for CelebA, data=celeba data.path=FOLDER."
    )


def fetch_named(name: str) -> Path:
    """Fetch the files of a data set into the user's cache and verify them; returns their folder.

    Raises:
        ValueError: If the name is unknown, or the set comes with a library.
        DataNotFoundError: If they could not be fetched.
    """
    entry = entry_named(name)
    if not entry.files:
        raise ValueError(f"{name} comes with scikit-learn and needs no download.")
    return _fetched(entry, Search({}, _file_names(entry), (cache_folder(name),)))


@dataclass(frozen=True)
class Status:
    """What there is of a data set on this machine.

    Attributes:
        name: Of the data set.
        folder: Where all its files were found, or None.
        verified: Whether each of them has the published SHA-256; unpacked files have none.
        size: Bytes to fetch, 0 where nothing is fetched.
        source: Where the files come from: a library that is installed, a mirror, or the reader's own hands where no checksum is
            published that a download could be held against.
        licence: As its makers state it.
        citation: Whom to cite.
    """

    name: str
    folder: Path | None
    verified: bool
    size: int
    licence: str
    citation: str
    source: Literal["library", "mirror", "hand"] = "mirror"


def status() -> tuple[Status, ...]:
    """What there is of each data set on this machine; reads and hashes the files that are found."""
    return tuple(_status(entry) for entry in ENTRIES.values())


def _status(entry: Entry) -> Status:
    files, result = find_files(entry, None)
    folder = None if result.missing or not entry.files else next(iter(result.found.values())).parent
    checked = not result.missing and all(_verified(result.found[file.name], file) for file in files)
    size = sum(file.size for file in entry.files)
    fetchable = size and all(file.urls for file in entry.files)
    source: Literal["library", "mirror", "hand"] = "mirror" if fetchable else "hand" if entry.files else "library"
    return Status(entry.name, folder, checked, size, entry.licence, entry.citation, source)


def _verified(path: Path, file: RemoteFile) -> bool:
    if path.suffix == ".xz" and path.name != file.name:
        with lzma.open(path) as content:
            try:
                return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
            except (lzma.LZMAError, EOFError):
                return False
    return verified(path, file)


def _file_names(entry: Entry) -> tuple[str, ...]:
    return tuple(file.name for file in entry.files)


def _files(entry: Entry, given: Path | None) -> Mapping[str, Path]:
    files, result = find_files(entry, given)
    if not result.missing:
        _warn_of_differences(entry, files, result.found)
        return result.found
    folder = _fetched(entry, result)
    return {name: folder / name for name in _file_names(entry)}


def find_files(entry: Entry, given: Path | None) -> tuple[tuple[RemoteFile, ...], Search]:
    """The best set of files that is there complete, below the user's path if there is one; else what there is of the published."""
    everywhere = roots(given, entry.name)
    for places in (everywhere[:1], everywhere) if given is not None else (everywhere,):
        for files in (entry.files, *entry.others):
            result = search([file.name for file in files], entry.folders, places)
            if not result.missing:
                return files, result
    return entry.files, search(_file_names(entry), entry.folders, everywhere)


def _fetched(entry: Entry, searched: Search) -> Path:
    folder = cache_folder(entry.name)
    if not all(file.sha256 for file in entry.files):
        cause = "it is not fetched by itself, as no SHA-256 of it is published to tell the right file by"
        raise DataNotFoundError(_not_found(entry, searched, cause))
    if not all(file.urls for file in entry.files):
        raise DataNotFoundError(_not_found(entry, searched, "no address has the file as it is read here"))
    try:
        fetch(entry.files, folder)
    except (DownloadError, OSError) as error:
        raise DataNotFoundError(_not_found(entry, searched, str(error))) from error
    return folder


def _warn_of_differences(entry: Entry, files: tuple[RemoteFile, ...], found: Mapping[str, Path]) -> None:
    owners = {file.sha256: other for other in ENTRIES.values() for file in other.files}
    for file in files if files == entry.files else ():
        path = found[file.name]
        if path.name != file.name or not file.sha256:
            continue  # unpacked: no checksum is published
        digest = sha256(path)
        if digest == file.sha256:
            continue
        if digest in owners:
            raise DataFormatError(f"{path} is a file of {owners[digest].name}, expected one of {entry.name}.")
        warnings.warn(
            f"{path} is not the published file of {entry.name}: expected SHA-256 {file.sha256}, found {digest}. "
            "It is used as it is; numbers may not compare with published ones.",
            stacklevel=5,  # where data.named, data.named_table or data.cells was called
        )


def _not_found(entry: Entry, result: Search, cause: str) -> str:
    free = ", ".join(other.name for other in ENTRIES.values() if not other.files)
    lines = (
        f"data set {entry.name}: missing {', '.join(result.missing)}.",
        f"Searched: {', '.join(map(str, result.places))}.",
        f"Put the files into a folder DIR/{entry.folders[0]} and write --data_path DIR, or set {VARIABLE}=DIR.",
        f"They can be had from: {', '.join(entry.mirrors)}.",
        f"Data sets that need no download: {free} (data={free.split(', ', maxsplit=1)[0]}).",
        f"Cause: {cause}",
    )
    return "\n".join(lines)
