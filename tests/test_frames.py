"""Zero-shot on real frames: features once per pixel spacing give what the protocol gives frame by frame."""
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dark.core import paths
from dark.core.stats import bootstrap, confusion, f1_of_counts, macro_f1, percentile_interval
from dark.data.biometry import days, predicted_day
from dark.data.fetal_planes import (
    FetalHeads,
    FetalPlanes,
    landmarks_file,
    planes_labels_file,
    read_landmarks,
    read_planes_labels,
    select_benchmark,
)
from dark.data.fetalclip import age_sentences, ages_file, check_ages, plane_predictions
from dark.data.hc18 import HC18
from dark.data.pictures import open_picture
from dark.data.prompts import BRAIN
from dark.data.sources import planes_part
from dark.evaluate.probes import probe_split
from dark.evaluate.zero_shot import Reader, encode_frames, predict_heads, predict_planes, to_rgb
from dark.models.released import get_release

checkout = Path(__file__).resolve().parent.parent
mirror = paths.mirror() or checkout.parent / "shared" / "mirror"
needs_hc18 = pytest.mark.skipif(not (mirror / ages_file).is_file() or not (mirror / "hc18" / "training_set").is_dir(),
                                reason="HC18 and the prompts are not here: set DARK_MIRROR to a folder with them")
needs_frames = pytest.mark.skipif(not (mirror / planes_part).is_dir() or not (mirror / landmarks_file).is_file(),
                                  reason="no part of FETAL_PLANES_DB is here: set DARK_MIRROR to a folder with one")


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

@pytest.fixture(scope="module")
def there():
    "Names of the frames that the mirror has."
    return {path.stem for path in (mirror / planes_part).glob("*.png")}


@pytest.fixture
def part(there):
    "A benchmark, as far as its frames are in the mirror."
    class Part(FetalPlanes):
        def __init__(self, benchmark):
            whole = select_benchmark(read_planes_labels(mirror / planes_labels_file), benchmark)
            self.table = whole[whole["image"].isin(there)].reset_index(drop=True)
            self.files, self.folder = (self.table["image"] + ".png").to_numpy(), mirror / planes_part
    return Part


@pytest.fixture(scope="module")
def known():
    "What the mirror says of its frames."
    return pd.read_csv(mirror / planes_part / "../frames.csv").set_index("image")


@needs_frames
@pytest.mark.parametrize("benchmark", ["six_planes", "brain_subplanes"])
def test_frames_join_their_labels_and_the_published_predictions(part, known, benchmark):
    table = part(benchmark).table
    assert len(table) > 300 and set(table["split"]) == {"train", "test"}
    assert (table["patient"] == known.loc[table["image"], "patient"].to_numpy()).all()
    assert ((table["split"] == "train") == known.loc[table["image"], "train"].to_numpy()).all()
    if benchmark == "brain_subplanes":
        taught = plane_predictions(mirror, benchmark).set_index("image").loc[table["image"]]
        assert (taught["truth"] == table["truth"].to_numpy()).all()
        assert (taught["predicted"] == known.loc[table["image"], "teacher_brain"].to_numpy()).all()


@needs_frames
def test_the_published_teacher_on_these_frames(part):
    "Its brain F1 here, with an interval over patients, holds the value of the whole set."
    images = set(part("brain_subplanes").table["image"])
    whole = plane_predictions(mirror, "brain_subplanes")
    here = whole[whole["image"].isin(images)]
    assert macro_f1(whole["truth"], whole["predicted"], BRAIN) == pytest.approx(0.6929, abs=1e-4)
    draws = bootstrap(f1_of_counts, confusion(here["truth"], here["predicted"], BRAIN), here["patient"])
    low, high = percentile_interval(draws)
    assert 0.5 < macro_f1(here["truth"], here["predicted"], BRAIN) < 0.9 and low < 0.6929 < high


@needs_frames
def test_every_frame_of_every_machine_is_read(part, known, reader):
    planes = part("six_planes")
    pictures = planes.pictures(64)
    assert (pictures.float().std((1, 2)) > 5).all() and len(pictures) == len(planes.table)
    assert set(known.loc[planes.table["image"], "machine"]) == {"Voluson E6", "Aloka", "Voluson S10", "Other"}


@needs_frames
def test_predictions_stand_beside_their_frames(part, reader):
    "In the order of the label file, and the same for a frame alone, in colour too."
    planes, prompts = part("brain_subplanes"), {plane: [f"a {plane} plane"] for plane in BRAIN}
    table = predict_planes(reader, planes, prompts)
    assert table["image"].tolist() == planes.table["image"].tolist() and set(table["predicted"]) <= set(BRAIN)
    features = encode_frames(reader, planes, np.arange(len(planes.table)))
    for row in (0, 100, len(table) - 1):
        assert torch.allclose(encode_frames(reader, planes, [row])[0], features[row], atol=1e-5)
        file = planes.folder / planes.files[row]
        grey, colour = open_picture(file), io.BytesIO()
        Image.open(file).convert("RGB").save(colour, "png")
        assert np.array_equal(np.asarray(open_picture(colour)), np.asarray(grey))


@needs_frames
def test_no_patient_is_probed_on_both_sides(part, reader):
    planes = part("brain_subplanes")
    features = encode_frames(reader, planes, np.arange(len(planes.table))).numpy()
    assert 0 <= probe_split(planes.table, features, 0)["score"] <= 1
    swapped = planes.table.copy()
    patient = swapped["patient"].value_counts().index[0]
    swapped.loc[swapped.index[swapped["patient"] == patient][0], "split"] = "test"
    swapped.loc[swapped.index[swapped["patient"] == patient][1], "split"] = "train"
    with pytest.raises(ValueError, match=f"patient {patient} is in training and in test"):
        probe_split(swapped, features, 0)


@needs_frames
def test_heads_of_known_size(known):
    heads = FetalHeads(mirror / planes_labels_file, mirror / landmarks_file, mirror / planes_part, part=True)
    told = known.loc[heads.table["image"]]
    assert len(heads) > 150 and heads.table["patient"].nunique() > 50
    assert np.abs(heads.table["hc_mm"].to_numpy() - told["hc_mm"]).max() < 0.1
    assert (heads.table[["wide", "high"]].to_numpy() == told[["native_width", "native_height"]]).all(axis=None)
    assert np.allclose(heads.spacing(288), told["native_width"] / 288 * told["mm_per_native_pixel"], atol=0.006)
    pressed = heads.table["squeezed"]
    assert 1.1 < pressed.max() < 1.13 and (np.abs(pressed - 1) < 0.01).mean() > 0.5
    pictures = heads.pictures(96)
    rows = (pictures > 12).any(2).sum(1).numpy()
    assert np.abs(rows - 96 * heads.table["high"] / heads.table["wide"]).max() < 8, "the native shape is restored"


@needs_frames
def test_landmarks_that_cannot_be_true():
    table = read_landmarks(mirror / landmarks_file)
    wrong = table[table["wrong"] != ""].set_index("image")["wrong"]
    assert wrong["Patient00955_Plane3_2_of_3"].startswith("has ")
    assert wrong["Patient00888_Plane3_2_of_3"] == "has no scale" and 5 <= len(wrong) < 10
    assert table.loc[table["wrong"] == "", "hc_mm"].between(60, 380).all()
