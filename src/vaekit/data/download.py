"""Fetch published files: resumed where they stopped, verified before they get their name, never a byte too many."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from vaekit._version import __version__
from vaekit.data.errors import DownloadError
from vaekit.data.progress import Advance, progress
from vaekit.files import sync_folder

_TRIES = 3
_CHUNK = 2**16
_SLOWEST = 1024  # bytes a second; below, a connection counts as stalled
_FINAL = frozenset({400, 401, 403, 404, 405, 410, 451})  # asking again would not help


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: Under which it is kept.
        size: Bytes.
        sha256: Hexadecimal.
        urls: Where the same bytes lie, the best place first; http or https.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...] = ()


def fetch(files: Sequence[RemoteFile], folder: Path, *, timeout: float = 30.0, pause: float = 1.0) -> None:
    """Have each of `files` in `folder`, complete and verified; those that are there already are left alone.

    A file is written as `NAME.part`, which a later call goes on with, and gets its name only when its size and SHA-256 are
    the published ones. Each address is tried three times at most, then the next one.

    Arguments:
        files: What to fetch.
        folder: Made if absent.
        timeout: Seconds without a byte, or with less than a kilobyte a second, after which a connection is given up.
        pause: Seconds before the second try; twice that before the third.

    Raises:
        DownloadError: If no address gave the file; the message names each address, what was expected and found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        with _lock(folder / f"{file.name}.lock"):
            if not verified(folder / file.name, file):
                _fetch_one(file, folder, timeout, pause)


def verified(path: Path, file: RemoteFile) -> bool:
    """Whether `path` has the size and SHA-256 of the published file."""
    return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class _TryError(Exception):
    """One try failed; `final` tells that another try at the same address would fail as well."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def _fetch_one(file: RemoteFile, folder: Path, timeout: float, pause: float) -> None:
    failures = []
    with progress(file.name, file.size) as advance:
        for url in file.urls:
            try:
                _from_address(url, file, folder, timeout, pause, advance)
                return
            except _TryError as failure:
                failures.append(f"  {url}: {failure}")
        raise DownloadError("\n".join((f"{file.name} could not be fetched ({file.size:,} bytes).", *failures)))


def _from_address(url: str, file: RemoteFile, folder: Path, timeout: float, pause: float, advance: Advance) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            return _try(url, file, folder, timeout, advance)
        except _TryError as failure:
            if failure.final or attempt == _TRIES:
                raise
        time.sleep(pause * 2 ** (attempt - 1))
    return None


def _try(url: str, file: RemoteFile, folder: Path, timeout: float, advance: Advance) -> None:
    part = _Part(folder / f"{file.name}.part", folder / f"{file.name}.part.json", url, file.size)
    try:
        with _open(url, part, timeout) as response:
            part.begin(response)
            _copy(response, part, timeout, advance)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.discard()
        raise _TryError(
            f"expected the file, found HTTP {error.code} {error.reason}", final=error.code in _FINAL
        ) from error
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise _network(error) from error
    _publish(part, file, folder)


def _network(error: Exception) -> _TryError:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return _TryError("expected data, found a stalled connection (timed out)")
    # without name service there is no network to wait for
    return _TryError(f"no connection: {cause or type(cause).__name__}", final=isinstance(cause, socket.gaierror))


def _publish(part: _Part, file: RemoteFile, folder: Path) -> None:
    found = sha256(part.path)
    if found != file.sha256:
        part.discard()
        raise _TryError(f"expected SHA-256 {file.sha256}, found {found}")
    os.replace(part.path, folder / file.name)
    part.discard()
    sync_folder(folder)


class _Part:
    """The beginning of a file on disk, and which version of it at which address it is the beginning of."""

    def __init__(self, path: Path, record: Path, url: str, size: int) -> None:
        self.path, self.record, self.url, self.size = path, record, url, size

    def request_headers(self) -> dict[str, str]:
        """Ask for the rest if a part of this address is there, for everything if not."""
        done, validator = self.done(), self._recorded()
        if not 0 < done < self.size or validator is None:
            return {}
        headers = {"Range": f"bytes={done}-"}
        # a weak ETag must not stand in If-Range (RFC 9110, section 13.1.5); the SHA-256 decides in the end
        if validator and not validator.startswith("W/"):
            headers["If-Range"] = validator
        return headers

    def begin(self, response: Any) -> None:
        """Go on where a 206 goes on; anything else starts anew."""
        validator = _validator(response.headers)
        if response.status == 206:
            self._must_continue(response.headers.get("Content-Range", ""), validator)
        elif response.status == 200:
            self.discard()
        else:
            raise _TryError(f"expected HTTP 200 or 206, found {response.status}")
        length = response.headers.get("Content-Length")
        if length is not None and length.strip() != str(self.size - self.done()):
            found = f"{length} bytes" if self.done() == 0 else f"{length} bytes after {self.done():,}"
            self.discard()
            raise _TryError(f"expected {self.size} bytes, found {found}")
        self.record.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")

    def _must_continue(self, content_range: str, validator: str) -> None:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", content_range.strip())
        expected = (self.done(), self.size - 1)
        if found is None or (int(found[1]), int(found[2])) != expected or found[3] not in {"*", str(self.size)}:
            self.discard()
            raise _TryError(f"expected bytes {expected[0]}-{expected[1]}/{self.size}, found {content_range!r}")
        if validator != self._recorded():
            self.discard()
            raise _TryError("expected the version that was begun, found another one (its ETag changed)")

    def done(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        """Forget the part."""
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _recorded(self) -> str | None:
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            return str(record["validator"]) if record["url"] == self.url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _validator(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified") or ""


def _copy(response: Any, part: _Part, timeout: float, advance: Advance) -> None:
    size, start = part.size, time.monotonic()
    with part.path.open("ab") as file:
        done = begun = file.tell()
        advance(done)
        # one byte more than expected is asked for, so that a longer body is noticed and never stored
        while chunk := response.read1(min(_CHUNK, size - done + 1)):
            if done + len(chunk) > size:
                part.discard()
                raise _TryError(f"expected {size} bytes, found more")
            file.write(chunk)
            done += len(chunk)
            advance(done)
            elapsed = time.monotonic() - start
            if elapsed > timeout and done - begun < _SLOWEST * elapsed:
                raise TimeoutError
        file.flush()
        os.fsync(file.fileno())
    if done < size:
        raise _TryError(f"expected {size} bytes, found the end after {done}")


def _open(url: str, part: _Part, timeout: float) -> Any:
    headers = {"User-Agent": f"vaekit/{__version__}", "Accept-Encoding": "identity", **part.request_headers()}
    if not url.startswith(("http://", "https://")):
        raise _TryError("expected an address that begins with https:// or http://", final=True)
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (the scheme is checked above)
    return _opener().open(request, timeout=timeout)


def _opener() -> urllib.request.OpenerDirector:
    # put together by hand: the default opener also reads file:// and ftp://, which a redirect could then name
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SafeRedirect(),
    ):
        opener.add_handler(handler)
    return opener


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects as usual, but never from https to something else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        refuse_downgrade(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def refuse_downgrade(url: str, target: str) -> None:
    """Raise if a redirect from `url` to `target` leaves https."""
    if url.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise _TryError(f"expected https, found a redirect to {target}", final=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    # two runs that start together on an empty cache must not write into one .part; the kernel frees the lock of a dead run
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
