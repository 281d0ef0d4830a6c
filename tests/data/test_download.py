"""Downloads against a server on this machine that misbehaves in every way we know of."""

import hashlib
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vaekit.data import DownloadError
from vaekit.data.download import RemoteFile, fetch, refuse_downgrade

BODY = bytes(range(256)) * 2000
HALF = len(BODY) // 2
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server:
    """Answers the n-th request with the n-th of `answers`, the last one for ever; remembers the headers of each request."""

    def __init__(self, *answers):
        self.answers, self.requests = answers, []

    def answer(self, handler):
        self.requests.append(dict(handler.headers))
        self.answers[min(len(self.requests), len(self.answers)) - 1](handler)


@contextmanager
def serve(*answers):
    server = Server(*answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}/file"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def respond(handler, status, body, *, length=None, **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def good(handler):
    """The file, or the rest of it if a range is asked for and the version is still "v1"."""
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if wanted and handler.headers.get("If-Range", '"v1"') == '"v1"':
        start = int(wanted[1])
        rest = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        respond(handler, 206, BODY[start:], ETag='"v1"', Content_Range=rest)
    else:
        respond(handler, 200, BODY, ETag='"v1"')


def whole(handler):
    respond(handler, 200, BODY, ETag='"v1"')


def half(handler):
    respond(handler, 200, BODY[:HALF], length=len(BODY), ETag='"v1"')


def corrupt(handler):
    respond(handler, 200, bytes(len(BODY)), ETag='"v1"')


def stalled(handler):
    respond(handler, 200, BODY[:HALF], length=len(BODY), ETag='"v1"')
    time.sleep(1)


def dripping(handler):
    respond(handler, 200, b"", length=len(BODY), ETag='"v1"')
    for at in range(0, 1000, 10):
        handler.wfile.write(BODY[at : at + 10])
        handler.wfile.flush()
        time.sleep(0.03)


def missing(handler):
    respond(handler, 404, b"not here")


def busy(handler):
    respond(handler, 503, b"later")


def longer(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(BODY + b"!")


def shorter(handler):
    respond(handler, 200, BODY[:-1])


def wrong_range(handler):
    respond(handler, 206, BODY[1:], ETag='"v1"', Content_Range=f"bytes 1-{len(BODY) - 1}/{len(BODY)}")


def other_version(handler):
    rest = f"bytes {HALF}-{len(BODY) - 1}/{len(BODY)}"
    respond(handler, 206, BODY[HALF:], ETag='"v2"', Content_Range=rest)


def remote(*urls):
    return RemoteFile("file", len(BODY), DIGEST, urls)


def run(folder, *urls, timeout=5.0):
    fetch([remote(*urls)], folder, timeout=timeout, pause=0.0)


def fails(folder, *urls, timeout=5.0):
    with pytest.raises(DownloadError) as caught:
        run(folder, *urls, timeout=timeout)
    assert not (folder / "file").exists()
    return str(caught.value)


def test_a_good_file_gets_its_name_and_nothing_else_stays(tmp_path, capsys):
    with serve(good) as server:
        run(tmp_path / "new", server.url)
        assert (tmp_path / "new" / "file").read_bytes() == BODY
        assert {path.name for path in (tmp_path / "new").iterdir()} <= {"file", "file.lock"}
        run(tmp_path / "new", server.url)
        assert len(server.requests) == 1
    shown = capsys.readouterr()
    assert "fetching file (0.5 MB)" in shown.err
    assert shown.out == ""


def test_a_wrong_file_under_the_name_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with serve(good) as server:
        run(tmp_path, server.url)
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_wrong_hash_never_gets_the_name(tmp_path):
    with serve(corrupt) as server:
        message = fails(tmp_path, server.url)
    assert server.url in message
    assert f"expected SHA-256 {DIGEST}, found {hashlib.sha256(bytes(len(BODY))).hexdigest()}" in message
    assert not (tmp_path / "file.part").exists()
    assert len(server.requests) == 3


def test_a_short_body_is_resumed_by_range(tmp_path):
    with serve(half, good) as server:
        run(tmp_path, server.url)
    assert server.requests[1]["Range"] == f"bytes={HALF}-"
    assert server.requests[1]["If-Range"] == '"v1"'
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_later_call_goes_on_with_the_part(tmp_path):
    with serve(half, missing, good) as server:
        fails(tmp_path, server.url)
        assert (tmp_path / "file.part").stat().st_size == HALF
        run(tmp_path, server.url)
    assert server.requests[2]["Range"] == f"bytes={HALF}-"


def test_a_server_that_ignores_the_range_starts_anew(tmp_path):
    with serve(half, whole) as server:
        run(tmp_path, server.url)
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("answer", [wrong_range, other_version])
def test_another_range_or_version_starts_anew(tmp_path, answer):
    with serve(half, answer, good) as server:
        run(tmp_path, server.url)
    assert "Range" not in server.requests[2]
    assert (tmp_path / "file").read_bytes() == BODY


def test_the_rest_for_a_request_of_everything_is_refused(tmp_path):
    with serve(wrong_range) as server:
        assert f"expected bytes 0-{len(BODY) - 1}/{len(BODY)}, found 'bytes 1-" in fails(tmp_path, server.url)


def test_a_range_that_cannot_be_satisfied_starts_anew(tmp_path):
    def unsatisfiable(handler):
        respond(handler, 416, b"")

    with serve(half, unsatisfiable, good) as server:
        run(tmp_path, server.url)
    assert "Range" not in server.requests[2]


def test_a_stalled_connection_times_out(tmp_path):
    start = time.monotonic()
    with serve(stalled, missing) as server:
        fails(tmp_path, server.url, timeout=0.2)
    assert time.monotonic() - start < 3
    with serve(stalled) as server:
        assert "stalled connection (timed out)" in fails(tmp_path, server.url, timeout=0.1)


def test_a_connection_that_drips_counts_as_stalled(tmp_path):
    start = time.monotonic()
    with serve(dripping, missing) as server:
        fails(tmp_path, server.url, timeout=0.3)
    assert time.monotonic() - start < 2
    assert 0 < (tmp_path / "file.part").stat().st_size < 400


@pytest.mark.parametrize(("answer", "found"), [(longer, "found more"), (shorter, f"found {len(BODY) - 1} bytes")])
def test_another_length_is_refused(tmp_path, answer, found):
    with serve(answer) as server:
        message = fails(tmp_path, server.url)
    assert f"expected {len(BODY)} bytes, {found}" in message
    assert not (tmp_path / "file.part").exists()


def test_an_absent_file_is_not_asked_for_again(tmp_path):
    with serve(missing) as server:
        assert "HTTP 404" in fails(tmp_path, server.url)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_three_times(tmp_path):
    with serve(busy) as server:
        assert "HTTP 503" in fails(tmp_path, server.url)
    assert len(server.requests) == 3


def test_pauses_grow(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("vaekit.data.download.time.sleep", pauses.append)
    with serve(busy) as server, pytest.raises(DownloadError):
        fetch([remote(server.url)], tmp_path, pause=1.5)
    assert pauses == [1.5, 3.0]


def test_the_next_address_is_used_and_all_failures_are_named(tmp_path):
    with serve(missing) as bad, serve(good) as fine:
        run(tmp_path, bad.url, fine.url)
    with serve(missing) as one, serve(corrupt) as two:
        message = fails(tmp_path / "other", one.url, two.url)
    assert one.url in message
    assert two.url in message


def test_a_part_of_another_address_is_not_continued(tmp_path):
    with serve(half, missing) as one, serve(good) as two:
        run(tmp_path, one.url, two.url)
    assert "Range" not in two.requests[0]


def test_no_connection_is_said(tmp_path):
    with serve(good) as server:
        url = server.url
    assert "no connection" in fails(tmp_path, url)


def test_redirects_are_followed_but_never_to_plain_http_or_files(tmp_path):
    with serve(good) as target, serve(lambda handler: respond(handler, 302, b"", Location=target.url)) as server:
        run(tmp_path, server.url)
    with serve(lambda handler: respond(handler, 302, b"", Location="file:///etc/hostname")) as server:
        fails(tmp_path / "other", server.url)
    with pytest.raises(Exception, match="expected https, found a redirect to http://elsewhere/file"):
        refuse_downgrade("https://somewhere/file", "http://elsewhere/file")
    refuse_downgrade("https://somewhere/file", "https://elsewhere/file")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://somewhere/file", "file"])
def test_other_schemes_are_refused(tmp_path, url):
    assert "expected an address that begins with https://" in fails(tmp_path, url)


def test_a_damaged_record_of_the_part_starts_anew(tmp_path):
    (tmp_path / "file.part").write_bytes(b"something else")
    (tmp_path / "file.part.json").write_text("[")
    with serve(good) as server:
        run(tmp_path, server.url)
    assert "Range" not in server.requests[0]


def test_a_part_with_foreign_content_ends_in_the_right_file(tmp_path):
    with serve(half, missing, good, good) as server:
        fails(tmp_path, server.url)
        (tmp_path / "file.part").write_bytes(bytes(HALF))
        run(tmp_path, server.url)
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(server.requests) == 4


def test_two_at_once_fetch_once(tmp_path):
    with serve(good) as server:
        threads = [threading.Thread(target=run, args=(tmp_path, server.url)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 1
