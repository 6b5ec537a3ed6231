"Servers as they are: each download ends well or in one sentence, and the next try works."
import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dark.core import paths
from dark.core.paths import Busy, hold
from dark.data import server as asking
from dark.data import sources
from dark.data.download import dark_fetch
from dark.data.server import download_file

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
        if kind.way == "416 to the rest" and ranged and not probe:
            return self.send_error(416)
        if kind.way == "patience" and kind.tries == 1:
            self.send_response(503)
            self.send_header("Retry-After", "3600")
            return self.end_headers()
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


@pytest.mark.parametrize("home", ["416 to the rest"], indirect=True)
def test_a_rest_that_the_server_has_not_is_no_trap(home, tmp_path):
    "It was asked for again and again."
    (tmp_path / "file").write_bytes(CONTENT[:HALF])
    with pytest.raises(OSError, match=f"the server has no bytes from {HALF}"):
        download_file(home, tmp_path / "file")
    download_file(home, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("home", ["patience"], indirect=True)
def test_an_hour_of_patience_is_not_cut_short(home, tmp_path):
    "It was asked again after ten minutes, whatever it had said."
    with pytest.raises(OSError, match="asks to be left alone for 3600 s"):
        download_file(home, tmp_path / "file")


@pytest.fixture
def toys(tmp_path, monkeypatch):
    "A file and a folder to be fetched from a mirror; where they go."
    mirror = tmp_path / "mirror"
    (mirror / "scans").mkdir(parents=True)
    (mirror / "a.txt").write_text("a")
    (mirror / "scans/1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"middle" + b"IEND1234")
    monkeypatch.setenv("DARK_MIRROR", str(mirror))
    monkeypatch.setattr(paths, "root", tmp_path)
    monkeypatch.setattr(paths, "raw", tmp_path / "raw")
    monkeypatch.setitem(sources.items, "toys", sources.Item("toys", "two files", "9 bytes", "none", (
        sources.File("a.txt", "http://127.0.0.1:9/a.txt"),
        sources.Folder("scans", "http://127.0.0.1:9/scans.zip", "scans", r"\d\.png", 1))))
    return tmp_path / "raw/toys"


def circle(path):
    path.symlink_to(path)


IN_THE_WAY = {"a folder for a file": ("a.txt", lambda path: path.mkdir()),
              "a file for a folder": ("scans", lambda path: path.write_text("mine")),
              "a circle for a folder": ("scans", circle), "a circle for what is begun": (".parts", circle),
              "a circle for all": ("", circle), "a circle for the lock": ("../toys.lock", circle)}


@pytest.mark.parametrize("name, put", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_what_is_in_the_way_is_named_and_stays(toys, capsys, name, put):
    "A folder with the name of a file was removed with all that it held; a circle of links was a bare number."
    there = toys / name
    there.parent.mkdir(parents=True, exist_ok=True)
    put(there)
    before = there.lstat().st_mode
    assert dark_fetch(["toys"]) == 1
    told = capsys.readouterr().err
    assert f"raw/toys/{name}".rstrip("/").replace("toys/../", "") in told and "move it away" in told
    assert told.count("\n") == 1 and "network" not in told and there.lstat().st_mode == before
    there.rmdir() if there.is_dir() else there.unlink()
    assert dark_fetch(["toys"]) == 0 and (toys / "a.txt").read_text() == "a"


@pytest.mark.parametrize("number, said", [(errno.ENOSPC, "no room on the disk for raw/toys"), (errno.EIO, "mend that"),
                                          (errno.EROFS, "permissions"), (errno.EACCES, "permissions")])
@pytest.mark.parametrize("name", ["os.replace", "shutil.copyfile", "pathlib.Path.mkdir"])
def test_a_disk_that_gives_out(toys, capsys, monkeypatch, number, said, name):
    "The network was blamed."
    def fail(*args, **_):
        raise OSError(number, os.strerror(number), str(toys / "a.txt"))

    with monkeypatch.context() as broken:
        if name == "pathlib.Path.mkdir":
            toys.parent.mkdir()
        broken.setattr(name, fail)
        assert dark_fetch(["toys"]) == 1
    told = capsys.readouterr().err
    assert said in told and "network" not in told and "Traceback" not in told and told.count("\n") == 1
    assert dark_fetch(["toys"]) == 0


def test_a_server_that_stays_busy_is_named(monkeypatch, tmp_path):
    "After five tries, and without a word on the network."
    class Always(Server):
        def do_GET(self):
            type(self).tries += 1
            self.send_error(429)

    monkeypatch.setattr(asking.time, "sleep", lambda seconds: None)
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
        assert dark_fetch(["toys"]) == 2
    told = capsys.readouterr().err
    assert "toys is being fetched by process" in told and "network" not in told
    assert not any(path.is_dir() for path in Path(tmp_path).iterdir())
    with pytest.raises(Busy):
        with hold(tmp_path / "toys.lock", "a"), hold(tmp_path / "toys.lock", "b"):
            raise AssertionError("both are in")
