"""Zero-shot on real frames: features once per pixel spacing give what the protocol gives frame by frame."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dark.data.biometry import days, predicted_day
from dark.data.fetalclip import age_sentences, ages_file, check_ages
from dark.data.hc18 import HC18
from dark.evaluate.zero_shot import Reader, predict_heads, to_rgb
from dark.models.released import get_release

checkout = Path(__file__).resolve().parent.parent
mirror = Path(os.environ["DARK_MIRROR"]) if "DARK_MIRROR" in os.environ else checkout.parent / "shared" / "mirror"
needs_hc18 = pytest.mark.skipif(not (mirror / ages_file).is_file() or not (mirror / "hc18" / "training_set").is_dir(),
                                reason="HC18 and the prompts are not here: set DARK_MIRROR to a folder with them")


class Small(torch.nn.Module):
    "An image tower of patches and a weighted bag of tokens: quick, and sensitive to every token and its place."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.look = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 16, 16), torch.nn.GELU(), torch.nn.Flatten(),
                                        torch.nn.Linear(32 * 14**2, 64))
        self.bag, self.place = torch.nn.EmbeddingBag(49408, 64, mode="sum"), torch.rand(117)

    def encode_image(self, pixels, normalize):
        return F.normalize(self.look(pixels), dim=-1)

    def encode_text(self, tokens, normalize):
        return F.normalize(self.bag(tokens, per_sample_weights=self.place.expand(tokens.shape)), dim=-1)


@pytest.fixture(scope="module")
def reader():
    from open_clip.tokenizer import SimpleTokenizer
    release = get_release("fetalclip")
    return Reader("small", Small().eval(), SimpleTokenizer(context_length=117), 224, release.mean, release.std)


def by_the_protocol(reader, heads, row, templates):
    "One frame as the paper evaluates it: its own 875 captions, every dot product, mean over templates, top 15, median."
    with Image.open(heads.folder / heads.table["filename"][row]) as file:
        grey = np.array(file.convert("L"))
    side, mm = max(grey.shape), heads.table["pixel_mm"][row]
    padded = np.zeros((side, side), dtype="u1")
    top, left = (side - grey.shape[0]) // 2, (side - grey.shape[1]) // 2
    padded[top:top + grey.shape[0], left:left + grey.shape[1]] = grey
    frame = np.asarray(Image.fromarray(padded).resize((reader.size,) * 2, Image.Resampling.BICUBIC))
    spacing = round(side / reader.size * mm, 2)
    with torch.no_grad():
        image = reader.model.encode_image(to_rgb(torch.tensor(frame[None]), reader.mean, reader.std), True)[0]
        scores = []
        for day in days:
            captions = reader.model.encode_text(reader.tokens(age_sentences(templates, day, spacing)), True)
            scores.append((100 * captions @ image).mean().item())
    best = days[np.argsort(-np.array(scores), kind="stable")[:15]]
    assert np.median(best) == predicted_day(np.array(scores), days)
    return float(np.median(best))


@needs_hc18
def test_twenty_frames(reader):
    heads, templates = HC18(mirror), check_ages(mirror / ages_file)
    rows = np.linspace(0, 998, 20).astype(int)
    table = predict_heads(reader, heads, templates, rows)
    assert len(set(heads.spacing(224)[rows])) < 20, "some frames share their captions"
    expected = [by_the_protocol(reader, heads, row, templates) for row in rows]
    assert table["predicted_day"].tolist() == expected
    assert len(set(expected)) > 5, "the model tells frames apart"
    assert table["hc_mm"].tolist() == heads.table["hc_mm"][rows].tolist()


@needs_hc18
def test_templates(reader):
    templates = check_ages(mirror / ages_file)
    sentences = age_sentences(templates, 272, .1)
    assert len(sentences) == 5 and all("38 weeks" in s and "6 days" in s and "0.10 mm" in s for s in sentences)
    assert (reader.tokens(sentences) == 49407).any(1).all(), "no sentence is cut at 117 tokens"
