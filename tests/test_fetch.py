"""The command `dark_fetch`: whole fetches from a mirror and from a server, and what can be wrong on the way."""
import io
import os
import resource
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dark.core import paths
from dark.core.repro import sha256
from dark.data import download, fetalclip, sources

checkout = Path(__file__).resolve().parent.parent
mirror = paths.mirror() or checkout.parent / "shared" / "mirror"
needs_hc18 = pytest.mark.skipif(not (mirror / "hc18" / "training_set").is_dir(),
                                reason="HC18 is not here: set DARK_MIRROR to a folder with it")


def picture(seed):
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (150, 150), dtype="u1")
    Image.fromarray(noise).save(buffer, "png")
    return buffer.getvalue()


def is_b(path):
    if path.read_text() != "b":
        raise ValueError("b.txt does not hold b")


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)


PICTURES = [(f"training/{i}.png", picture(i)) for i in range(3)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A home with two files and an archive of three pictures, the same as a mirror, and an empty folder to fetch into."
    source, raw = tmp_path / "home", tmp_path / "root" / "data" / "raw"
    (source / "pictures").mkdir(parents=True)
    (source / "a.txt").write_text("a")
    (source / "b.txt").write_text("b")
    write_zip(source / "pictures.zip", PICTURES)
    for name, content in PICTURES:
        (source / "pictures" / Path(name).name).write_bytes(content)
    monkeypatch.setattr(sources, "items", items("http://127.0.0.1:9"))
    monkeypatch.setattr(paths, "root", tmp_path / "root")
    monkeypatch.setattr(paths, "raw", raw)
    monkeypatch.setenv("DARK_MIRROR", str(source))
    return source


def items(url):
    files = (sources.File("a.txt", f"{url}/a.txt", sha256=sha256(b"a")),
             sources.File("b.txt", f"{url}/b.txt", read=is_b))
    folder = sources.Folder("pictures", f"{url}/pictures.zip", "training", r"\d\.png", 3)
    return {"letters": sources.Item("letters", "two letters", "2 bytes", "public domain", files),
            "pictures": sources.Item("pictures", "three pictures", "68 kB", "public domain", (folder,))}


class Server(SimpleHTTPRequestHandler):
    "Honours ranges; breaks off after `limit` bytes of an answer."
    limit, sent = 10**9, 0

    def log_message(self, *args): pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        first, last = 0, len(content) - 1
        if "Range" in self.headers:
            bounds = self.headers["Range"].removeprefix("bytes=").split("-")
            first, last = int(bounds[0]), int(bounds[1] or last)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", last + 1 - first)
        self.end_headers()
        body = content[first:last + 1][:self.limit]
        Server.sent += len(body)
        self.wfile.write(body)


@pytest.fixture
def server(home, monkeypatch):
    "The home behind a server, and no mirror."
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=home))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setattr(sources, "items", items(f"http://127.0.0.1:{http.server_address[1]}"))
    monkeypatch.delenv("DARK_MIRROR")
    monkeypatch.setattr(Server, "sent", 0)
    yield home
    http.shutdown()
    http.server_close()


def fails(capsys, name, code=1):
    "The one sentence with which a fetch fails."
    assert download.dark_fetch([name]) == code
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and error.startswith("dark_fetch: ")
    return error


def left_over(name):
    return sorted(p.relative_to(paths.raw / name).as_posix() for p in (paths.raw / name).rglob("*"))


def test_fetch_then_locate(home, capsys):
    with pytest.raises(sources.NeedsData, match="needs `dark_fetch letters`"):
        download.locate("letters")
    assert download.dark_fetch(["letters", "pictures"]) == 0
    assert "licence, please read it once: public domain" in capsys.readouterr().out
    assert left_over("letters") == ["a.txt", "b.txt"]
    assert left_over("pictures") == ["pictures", *(f"pictures/{i}.png" for i in range(3))]
    assert download.dark_fetch(["letters"]) == 0
    assert "licence" not in capsys.readouterr().out, "asked to be read once"


def test_fetch_from_the_server(server):
    assert download.dark_fetch(["letters", "pictures"]) == 0
    assert (download.locate("pictures") / "pictures" / "1.png").read_bytes() == PICTURES[1][1]
    assert left_over("pictures") == ["pictures", *(f"pictures/{i}.png" for i in range(3))]


def test_what_is_there_is_not_fetched_again(home):
    download.fetch("letters"), download.fetch("pictures")
    shutil.rmtree(home)
    assert download.dark_fetch(["letters", "pictures"]) == 0


def test_interrupted_download_is_resumed(server, capsys, monkeypatch):
    write_zip(server / "pictures.zip", [*PICTURES, ("other/big.bin", os.urandom(300_000))])
    size = (server / "pictures.zip").stat().st_size
    monkeypatch.setattr(Server, "limit", 200_000)
    assert "cannot get pictures from http://127.0.0.1" in fails(capsys, "pictures")
    here = (paths.raw / "pictures" / ".parts" / "pictures.zip").stat().st_size
    assert 100_000 < here <= 200_000
    with pytest.raises(sources.NeedsData):
        download.locate("pictures")
    monkeypatch.setattr(Server, "limit", 10**9)
    monkeypatch.setattr(Server, "sent", 0)
    assert download.dark_fetch(["pictures"]) == 0
    assert size - here <= Server.sent <= size - here + 10, "only the rest travels"
    assert left_over("pictures") == ["pictures", *(f"pictures/{i}.png" for i in range(3))]


def test_damaged_file_is_fetched_again(home, capsys):
    folder = download.fetch("letters")
    (folder / "a.txt").write_text("damaged")
    download.fetch("letters")
    assert (folder / "a.txt").read_text() == "a"
    assert "fetching it again" in capsys.readouterr().out


def test_a_changed_picture_is_noticed(home, capsys):
    folder = download.fetch("pictures")
    (folder / "pictures" / "1.png").write_bytes(picture(7))
    assert "pictures/1.png has checksum" in sources.find_damage("pictures")[0]
    download.fetch("pictures")
    assert (folder / "pictures" / "1.png").read_bytes() == PICTURES[1][1]


def test_another_version_at_home_is_refused(home, capsys):
    "The first fetch decides what an item is, where nobody else has."
    folder = download.fetch("pictures")
    shutil.rmtree(folder)
    (home / "pictures" / "1.png").write_bytes(picture(7))
    assert "pictures/1.png has checksum" in fails(capsys, "pictures")


@pytest.mark.parametrize("name, sentence", [("a.txt", "a.txt has checksum .* instead of ca978112ca1b"),
                                            ("b.txt", "b.txt does not hold b")])
def test_wrong_content_leaves_nothing(home, capsys, name, sentence):
    (home / name).write_text("something else")
    fails(capsys, "letters")
    with pytest.raises(ValueError, match=sentence):
        download.fetch("letters")
    assert not (paths.raw / "letters" / name).exists()
    assert not [p for p in paths.raw.rglob(".*")]


def test_truncated_picture(home, capsys):
    (home / "pictures" / "1.png").write_bytes(PICTURES[1][1][:-20])
    assert "pictures/1.png is no whole picture" in fails(capsys, "pictures")
    assert left_over("pictures") == []


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize("members, sentence", [
    ([*PICTURES, ("../escaped.png", b"x")], "it holds '../escaped.png', which leads out of the folder"),
    ([*PICTURES, ("/escaped.png", b"x")], "it holds '/escaped.png', which leads out of the folder"),
    ([*PICTURES, (link("training/9.png"), b"/etc/hostname")], "it holds the link 'training/9.png'"),
    (PICTURES[:2], "pictures has 2 files instead of 3"),
    ([], "pictures has 0 files instead of 3"),
])
def test_wrong_archive(server, capsys, members, sentence):
    write_zip(server / "pictures.zip", members)
    assert sentence in fails(capsys, "pictures")
    assert left_over("pictures") == [] and not list(server.parent.rglob("escaped.png"))


@pytest.mark.parametrize("keep, sentence", [(0, "the archive pictures.zip is empty"),
                                            (30_000, "the archive pictures.zip is cut short or damaged")])
def test_truncated_archive(server, capsys, keep, sentence):
    os.truncate(server / "pictures.zip", keep)
    assert sentence in fails(capsys, "pictures")
    assert left_over("pictures") == []


def test_an_archive_that_changed_while_it_was_brought(server, capsys, monkeypatch):
    write_zip(server / "pictures.zip", [*PICTURES, ("other/big.bin", os.urandom(300_000))])
    monkeypatch.setattr(Server, "limit", 200_000)
    fails(capsys, "pictures")
    write_zip(server / "pictures.zip", [("new.txt", "x" * 999), *PICTURES, ("other/big.bin", os.urandom(300_000))])
    monkeypatch.setattr(Server, "limit", 10**9)
    assert "the archive pictures.zip is cut short or damaged" in fails(capsys, "pictures")
    assert download.dark_fetch(["pictures"]) == 0, "the next attempt begins anew"


@pytest.mark.parametrize("name, what", [("pictures", "pictures/0.png"), ("letters", "a.txt")])
def test_no_room_on_the_disk(home, name, what):
    "A limit on the size of files stands in for a full disk: the same call fails, with a sibling of the same error."
    program = f"""
import resource, sys
sys.path.insert(0, {str(checkout / "tests")!r})
from pathlib import Path
import test_fetch
from dark.core import paths
from dark.data import download, sources
sources.items, paths.root = test_fetch.items("http://127.0.0.1:9"), Path({str(paths.root)!r})
paths.raw = paths.root / "data" / "raw"
resource.setrlimit(resource.RLIMIT_FSIZE, ({0 if name == "letters" else 1000}, resource.RLIM_INFINITY))
sys.exit(download.dark_fetch([{name!r}]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 1, done.stderr
    assert f"{what} grows beyond the limit of this shell: raise `ulimit -f`, then run the same" in done.stderr
    assert done.stderr.count("\n") == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_mirror_lacks_a_file(home, capsys):
    (home / "b.txt").unlink()
    assert "DARK_MIRROR has no b.txt" in fails(capsys, "letters")
    shutil.rmtree(home / "pictures")
    assert "DARK_MIRROR has no pictures" in fails(capsys, "pictures")


def test_no_network(home, capsys, monkeypatch):
    monkeypatch.delenv("DARK_MIRROR")
    error = fails(capsys, "letters")
    assert "cannot get a.txt from http://127.0.0.1:9/a.txt (" in error and "refused): try again with a network" in error
    error = fails(capsys, "pictures")
    assert "cannot get pictures from http://127.0.0.1:9/pictures.zip (" in error


def test_gone_from_its_home(server, capsys):
    (server / "a.txt").unlink()
    assert "404" in fails(capsys, "letters")


def test_unknown_item(home, capsys):
    sentence = "nothing is called 'numbers' here: choose from letters, pictures"
    assert download.dark_fetch(["letters", "numbers"]) == 2
    assert capsys.readouterr().err == f"dark_fetch: {sentence}\n"
    assert not paths.raw.exists()


def test_list(capsys):
    assert download.dark_fetch(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in sources.items)
    assert "CC BY-NC 4.0, NOT for commercial use" in out and fetalclip.scores_file in out


@needs_hc18
def test_fetch_the_real_hc18(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "raw", tmp_path)
    monkeypatch.setenv("DARK_MIRROR", str(mirror))
    folder = download.fetch("hc18")
    assert len(list((folder / "hc18" / "training_set").iterdir())) == 999
    assert sources.find_damage("hc18") == []
