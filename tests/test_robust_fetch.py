"Servers as they are: each download ends well or in one sentence, and the next try works."
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dark.core import paths
from dark.core.paths import Busy, hold
from dark.data import download, sources
from dark.data.download import dark_fetch, download_file

CONTENT = bytes(range(256)) * 40
HALF = len(CONTENT) // 2


class Server(BaseHTTPRequestHandler):
    "Behaves as its `way` says; a request with another's agent, or one that would take gzip, is refused."
    way, tries = "", 0

    def log_message(self, *_): pass

    def do_GET(self):
        kind = type(self)
        kind.tries += 1
        if "dark" not in self.headers["User-Agent"] or self.headers["Accept-Encoding"] != "identity":
            return self.send_error(403)
        ranged = self.headers["Range"]
        if kind.way == "busy" and kind.tries == 1:
            self.send_response(429)
            self.send_header("Retry-After", "1")
            return self.end_headers()
        if kind.way == "gone":
            return self.send_error(404)
        if kind.way == "416" and ranged:
            return self.send_error(416)
        probe = ranged == "bytes=0-0"
        whole = not ranged or kind.way == "whole" or kind.way == "whole after all" and not probe
        first = 0 if whole else int(ranged.removeprefix("bytes=").partition("-")[0])
        body = CONTENT[:1] if probe and not whole else CONTENT[first:]
        sent = first + 7 if kind.way == "another part" and not probe else first
        self.send_response(200 if whole else 206)
        if kind.way == "gzip" and not probe:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        if not whole and kind.way != "no range told":
            total = "*" if kind.way == "no total told" else len(CONTENT)
            self.send_header("Content-Range", f"bytes {sent}-{sent + len(body) - 1}/{total}")
        self.end_headers()
        self.wfile.write(body[:len(body) // 2] if kind.way == "breaks off" and kind.tries < 3 else body)


@pytest.fixture
def home(request):
    "A server's address."
    kind = type("One", (Server,), {"way": request.param, "tries": 0})
    server = HTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()


GOOD = ["parts", "busy", "416", "whole", "whole after all", "no range told", "no total told"]


@pytest.mark.parametrize("begun", [0, HALF, len(CONTENT), len(CONTENT) + 9], ids=["new", "half", "all", "too much"])
@pytest.mark.parametrize("home", GOOD, indirect=True)
def test_the_file_comes_whatever_the_server_gives(home, begun, tmp_path):
    if begun:
        (tmp_path / "file").write_bytes((CONTENT + bytes(9))[:begun])
    download_file(home, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("home, said", [("breaks off", "of 10240 bytes have come"), ("gone", "404"),
                                        ("gzip", "the server sends the file as gzip"),
                                        ("another part", "the server sent bytes")], indirect=["home"])
def test_what_cannot_be_is_said_and_what_came_is_kept(home, said, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(CONTENT[:HALF])
    if said.startswith("of"):
        (tmp_path / "file").unlink()
    with pytest.raises(OSError, match=said):
        download_file(home, tmp_path / "file")
    if said.startswith("of"):
        assert CONTENT.startswith((tmp_path / "file").read_bytes())
        for _ in range(3):
            try:
                download_file(home, tmp_path / "file")
            except OSError:
                continue
        assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_named(monkeypatch, tmp_path):
    "After five tries, and without a word on the network."
    class Always(Server):
        def do_GET(self):
            type(self).tries += 1
            self.send_error(429)

    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    server = HTTPServer(("127.0.0.1", 0), Always)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(OSError, match="429"):
        download_file(f"http://127.0.0.1:{server.server_port}/file", tmp_path / "file")
    assert Always.tries == 5
    server.shutdown()
    server.server_close()


def test_the_second_of_two_says_who_fetches(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "raw", tmp_path)
    monkeypatch.setitem(sources.items, "toys", sources.Item("toys", "a file", "1 byte", "none", (
        sources.File("a.txt", "http://127.0.0.1:9/a.txt"),)))
    with hold(tmp_path / "toys.lock", "toys is being fetched"):
        assert dark_fetch(["toys"]) == 1
    told = capsys.readouterr().err
    assert "toys is being fetched by process" in told and "network" not in told
    assert not any(path.is_dir() for path in Path(tmp_path).iterdir())
    with pytest.raises(Busy):
        with hold(tmp_path / "toys.lock", "a"), hold(tmp_path / "toys.lock", "b"):
            raise AssertionError("both are in")
