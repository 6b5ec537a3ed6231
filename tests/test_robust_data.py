"Pictures, captions and shards that were wrong without a word: read rightly, or refused by name."
import io
import json
import tarfile
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
import webdataset as wds
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from dark.data.pictures import open_picture, read_picture
from dark.data.shards import (
    BrokenShards,
    Tally,
    add_member,
    caption_shards,
    check_captions,
    decode_pair,
    write_shards,
)
from dark.distil.full_size import dark_distil, find_shards, refuse_long

RAMP = np.linspace(0, 255, 12, dtype="u1")[None].repeat(3, 0)
GREY = Image.fromarray(RAMP)
SIDE = Image.Exif()
SIDE[274] = 6


def png(picture, kind="png", **more):
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


READ = {
    "8 bits": png(GREY), "16 bits": png(Image.fromarray(RAMP.astype("u2") * 257)), "colour": png(GREY.convert("RGB")),
    "16 bits, tiff": png(Image.fromarray(RAMP.astype("u2") * 257), "tiff"), "palette": png(GREY.convert("P")),
    "LA": png(GREY.convert("LA")), "RGBA": png(GREY.convert("RGBA")),
    "CMYK": png(GREY.convert("RGB").convert("CMYK"), "tiff"),
    "on its side": png(GREY.transpose(Image.Transpose.ROTATE_90), exif=SIDE),
}
REFUSED = {
    "floats": png(Image.fromarray(RAMP.astype("f4") / 255), "tiff"),
    "32 bits": png(Image.fromarray(RAMP.astype("i4")), "tiff"),
    "two frames": png(GREY, "gif", save_all=True, append_images=[GREY.rotate(180)]), "text": b"hello", "nothing": b"",
}


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_every_kind_of_picture_shows_the_same(content, tmp_path):
    assert np.abs(np.asarray(open_picture(io.BytesIO(content))).astype(int) - RAMP).max() <= 1
    (tmp_path / "a.png").write_bytes(content)
    seen = read_picture(tmp_path / "a.png", 12, "hc18")[4:7].astype(int)
    assert np.abs(seen - RAMP).max() <= 1
    pixels, _ = decode_pair({"__key__": "7", "__url__": "a.tar", "png": content, "txt": b"a scan"}, 12)
    assert np.abs(pixels[1, 4:7].numpy().astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_has_no_look_is_refused(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="a.png cannot be read as a picture"):
        read_picture(tmp_path / "a.png", 12, "hc18")
    with pytest.raises(ValueError, match="7 has a picture that cannot be read"):
        decode_pair({"__key__": "7", "__url__": "a.tar", "png": content, "txt": b"a scan"}, 12)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_nothing_lies_behind_a_transparent_pixel(mode):
    hidden = Image.new("L", (6, 3), 255).convert(mode)
    hidden.putalpha(0)
    assert np.asarray(open_picture(io.BytesIO(png(hidden)))).max() == 0


def test_nothing_lies_behind_a_transparent_grey_of_16_bits(tmp_path):
    "It was white."
    wide = RAMP.astype("u2") * 257
    assert np.array_equal(np.asarray(open_picture(io.BytesIO(png(Image.fromarray(wide), transparency=65535)))),
                          np.where(RAMP == 255, 0, RAMP))


def test_whatever_pillow_raises_names_the_file(tmp_path, monkeypatch):
    "A damaged TIFF ends in TypeError."
    def stumble(*_):
        raise TypeError("Missing dimensions")
    monkeypatch.setattr("dark.data.pictures.open_picture", stumble)
    with pytest.raises(ValueError, match="a.png cannot be read as a picture .Missing dimensions"):
        read_picture(tmp_path / "a.png", 12, "hc18")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    (tmp_path / "a.png").write_bytes(READ["8 bits"])
    with pytest.raises(ValueError, match="more pixels than any scan"):
        read_picture(tmp_path / "a.png", 12, "hc18")


WORDS = {"é, Greek and Chinese": "tête μικρή 头围", "emoji": "a scan \N{BABY}", "many blanks": "  a   scan "}
NO_TEXT = {"nothing": {"txt": b""}, "blanks": {"txt": b" \n"}, "a list": {"json": b'{"caption": ["a"]}'},
           "a number": {"json": b'{"caption": 7}'}, "null": {"json": b'{"caption": null}'},
           "a bare text": {"json": b'"a"'},
           "a mark of order alone": {"txt": b"\xef\xbb\xbf"}, "nothing to see": {"txt": b"\xe2\x80\x8b"},
           "too deep": {"json": b"[" * 200_000},
           "no JSON": {"json": b"{"}, "another encoding": {"txt": "tête".encode("latin-1")}}


@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
def test_words_of_every_language_are_read(text):
    sample = {"__key__": "7", "__url__": "a.tar", "png": READ["8 bits"], "txt": text.encode()}
    assert decode_pair(sample, 8)[1] == text.strip()


@pytest.mark.parametrize("content", NO_TEXT.values(), ids=NO_TEXT)
def test_what_is_no_caption_is_named(content):
    with pytest.raises(ValueError, match="7 has (no|a) caption") as told:
        decode_pair({"__key__": "7", "__url__": "a.tar", "png": READ["8 bits"], **content}, 8)
    assert told.value.args[1] == "a.tar"


def made_shards(folder, shards, pairs):
    return write_shards(folder, [(RAMP, f"scan {i}") for i in range(shards * pairs)], per_shard=pairs)


@pytest.mark.parametrize("shards, ranks, workers", [(1, 1, 4), (1, 2, 1), (2, 2, 2), (16, 4, 4)])
def test_no_two_workers_read_the_same_stream(tmp_path, monkeypatch, shards, ranks, workers):
    "In an epoch of every layout no batch comes twice, and an epoch is not like the next."
    files, batches = made_shards(tmp_path, shards, 40), []
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    for epoch in range(2):
        for rank in range(ranks):
            monkeypatch.setenv("RANK", str(rank))
            for worker in range(workers):
                place = rank, ranks, worker, workers
                monkeypatch.setattr(wds.utils, "pytorch_worker_info", lambda group=None, place=place: place)
                stream = caption_shards(files, 8, seed=0, epoch=epoch, resampled=True, buffer=30)
                texts = [text for _, text in islice(stream, 16)]
                batches += [tuple(texts[:8]), tuple(texts[8:])]
    assert len(set(batches)) == len(batches)


@pytest.mark.parametrize("shards, ranks, workers", [(4, 1, 4), (16, 1, 1), (16, 4, 4), (64, 4, 4)])
def test_no_more_pairs_are_doubled_than_by_chance(tmp_path, monkeypatch, shards, ranks, workers):
    "Pairs that come twice among the first 40 of every stream, beside as many independent draws of a pair."
    files, texts, epochs = made_shards(tmp_path, shards, 40), [], 4
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    for epoch in range(epochs):
        for rank in range(ranks):
            monkeypatch.setenv("RANK", str(rank))
            for worker in range(workers):
                place = rank, ranks, worker, workers
                monkeypatch.setattr(wds.utils, "pytorch_worker_info", lambda group=None, place=place: place)
                stream = caption_shards(files, 2, seed=0, epoch=epoch, resampled=True, buffer=30)
                texts += [(epoch, text) for _, text in islice(stream, 40)]
    drawn, pairs = len(texts) // epochs, shards * 40
    chance = drawn - pairs * (1 - (1 - 1 / pairs) ** drawn)
    assert (len(texts) - len(Counter(texts))) / epochs < 1.3 * chance + 5


def test_shards_without_a_pair_end(tmp_path):
    "Drawn with replacement they were waited for without end."
    tarfile.open(tmp_path / "a.tar", "w").close()
    with pytest.raises(BrokenShards, match="shards gave no pair, the last of them .*a.tar"):
        next(iter(caption_shards([tmp_path / "a.tar"], 8, resampled=True)))
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        add_member(archive, "7.png", b"no picture")
        add_member(archive, "7.txt", b"a scan")
    tally = Tally()
    with pytest.raises(BrokenShards, match="shards gave no pair"):
        next(iter(caption_shards([tmp_path / "b.tar"], 8, resampled=True, buffer=10, tally=tally)))
    assert len(tally.problems) == 1 and "7 has a picture that cannot be read" in tally.problems[0]


def test_too_many_broken_samples_end_in_one_sentence(tmp_path):
    "From a worker too, whose traceback torch sends along."
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i in range(200):
            add_member(archive, f"{i:03d}.png", b"no picture")
            add_member(archive, f"{i:03d}.txt", b"a scan")
    loader = torch.utils.data.DataLoader(caption_shards([tmp_path / "a.tar"], 8), 4, num_workers=1)
    with pytest.raises(BrokenShards, match="^more than 100 broken samples, the last in .*: check the shards$"):
        list(loader)


def test_a_dot_in_a_name_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add_member(archive, "p7.0.png", READ["8 bits"])
        add_member(archive, "p7.0.txt", b"a scan")
    with pytest.raises(BrokenShards, match="p7.0.png in .*a.tar: a name ends at its first dot.*rename it"):
        refuse_long([tmp_path / "a.tar"], 117, cut=True)


def test_half_written_shards_are_not_read(tmp_path):
    files = made_shards(tmp_path, 1, 3)
    for name in (".shard-000001.tar", "._shard-000000.tar"):
        (tmp_path / name).write_bytes(b"half")
    assert find_shards(tmp_path) == files


def test_captions_that_would_be_cut_stop_the_command(tmp_path, capfd):
    "Exit code 2 before anything is trained; --cut-captions goes on, and says how many."
    write_shards(tmp_path, [(RAMP, "a scan"), (RAMP, "a scan " * 80)])
    assert dark_distil(["--shards", str(tmp_path)]) == 2
    told = "1 captions have more than 117 tokens, the longest is 000000001 in shard-000000.tar"
    assert told in capfd.readouterr().err
    assert dark_distil(["--shards", str(tmp_path), "--cut-captions"]) == 1  # no weights here
    assert "they are cut" in capfd.readouterr().err


def packed(path, *members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            add_member(archive, name, content)
    return [path]


LONG = b"a scan " * 80
LONG_FACTS = json.dumps({"caption": LONG.decode()}).encode()
COUNTED = {"capitals": ([("7.PNG", b""), ("7.TXT", LONG)], 1),
           "both forms": ([("7.txt", LONG), ("7.json", LONG_FACTS)], 1),
           "the form not read": ([("7.txt", b"a scan"), ("7.json", LONG_FACTS)], 0),
           "a Mac's notes": ([("._7.png", b""), ("._7.txt", LONG), ("7.txt", b"a scan")], 0),
           "too deep": ([("7.json", b"[" * 200_000), ("8.txt", LONG)], 1)}


@pytest.mark.parametrize("members, long", COUNTED.values(), ids=COUNTED)
def test_the_check_sees_the_captions_that_are_read(tmp_path, members, long):
    assert len(check_captions(packed(tmp_path / "a.tar", *members), SimpleTokenizer(), 117)) == long


@pytest.mark.parametrize("name", ["p7.0.PNG", "p7.0.TXT"])
def test_a_dot_is_refused_in_every_part_of_a_pair(tmp_path, name):
    with pytest.raises(BrokenShards, match=f"{name} in .*a.tar: a name ends at its first dot"):
        refuse_long(packed(tmp_path / "a.tar", (name, b"")), 117, cut=True)


def test_a_folder_in_a_shard_is_no_caption(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        folder = tarfile.TarInfo("7.txt")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    refuse_long([tmp_path / "a.tar"], 117, cut=False)


def test_a_name_that_comes_twice_is_named_with_its_shard(tmp_path):
    files, tally = packed(tmp_path / "a.tar", ("7.png", READ["8 bits"]), ("7.txt", b"one"), ("7.txt", b"two")), Tally()
    assert [text for _, text in caption_shards(files, 8, buffer=0, tally=tally)] == ["one"]
    assert len(tally.problems) == 1 and tally.problems[0].startswith(f"{files[0]}: ValueError: 7.txt: duplicate")


def test_a_picture_that_pillow_stumbles_over_is_named(monkeypatch):
    "A damaged TIFF ends in TypeError."
    def stumble(*_):
        raise TypeError("Missing dimensions")
    monkeypatch.setattr("dark.data.shards.open_picture", stumble)
    with pytest.raises(ValueError, match="7 has a picture that cannot be read .Missing dimensions") as told:
        decode_pair({"__key__": "7", "__url__": "a.tar", "png": b"", "txt": b"a scan"}, 8)
    assert told.value.args[1] == "a.tar"


def test_a_picture_on_its_side_is_written_upright(tmp_path):
    files = write_shards(tmp_path, [(Image.open(io.BytesIO(READ["on its side"])), "a scan")])
    pixels, _ = next(iter(caption_shards(files, 12, buffer=0)))
    assert np.abs(pixels[1, 4:7].numpy().astype(int) - RAMP).max() <= 1


UNWRITTEN = {"two frames": Image.open(io.BytesIO(REFUSED["two frames"])), "floats": RAMP / 255,
             "32 bits": RAMP.astype("i4"),
             "64 bits": RAMP.astype("i8"), "CMYK": GREY.convert("RGB").convert("CMYK"), "no picture": None}


@pytest.mark.parametrize("picture", UNWRITTEN.values(), ids=UNWRITTEN)
def test_what_a_shard_cannot_hold_is_named(tmp_path, picture):
    with pytest.raises(ValueError, match="^pair 1 has a picture that cannot be written"):
        write_shards(tmp_path, [(RAMP, "a scan"), (picture, "a scan")])
    assert not list(tmp_path.iterdir())


def test_a_caption_that_is_no_unicode_is_named(tmp_path):
    with pytest.raises(ValueError, match="^pair 0 has the caption"):
        write_shards(tmp_path, [(RAMP, "a \ud800")])


def test_shards_in_a_hidden_folder_are_not_read(tmp_path):
    files = made_shards(tmp_path / ".mine", 1, 3)
    (tmp_path / ".mine/.trash").mkdir()
    (tmp_path / ".mine/.trash/a.tar").write_bytes(b"old")
    assert find_shards(tmp_path / ".mine") == files
