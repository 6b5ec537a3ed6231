"Pictures, captions and shards that were wrong without a word: read rightly, or refused by name."
import io

import numpy as np
import pytest
from PIL import Image

from dark.data.pictures import open_picture, read_picture
from dark.data.shards import decode_pair

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


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    (tmp_path / "a.png").write_bytes(READ["8 bits"])
    with pytest.raises(ValueError, match="more pixels than any scan"):
        read_picture(tmp_path / "a.png", 12, "hc18")
