"""The models that the paper compares with: made-up weights in files of their structure load and compute the same."""
import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dark.core import paths
from dark.data.prompts import PLANES, plane_prompts
from dark.data.sources import NeedsData
from dark.evaluate.zero_shot import class_embeddings, classify, find_readers, public_reader, to_rgb
from dark.models.clip import build, parameters, save_model
from dark.models.released import OPENAI, get_release
from dark.recipe import get_profile

open_clip = pytest.importorskip("open_clip")  # after dark.models.clip, which mends its import
pytestmark = pytest.mark.full


def look(reader, width):
    "Two grey frames and all class prompts, as stages 45 and 46 use a reader."
    pixels = to_rgb(torch.randint(256, (2, reader.size, reader.size), dtype=torch.uint8), reader.mean, reader.std)
    with torch.no_grad():
        images = reader.model.encode_image(pixels, normalize=True)
    assert images.shape == (2, width) and torch.allclose(images.norm(dim=1), torch.ones(2), atol=1e-4)
    classes = class_embeddings(reader.model, [reader.tokens(plane_prompts(plane)[:2]) for plane in PLANES])
    assert set(classify(images, classes, list(PLANES))) <= set(PLANES)
    assert (reader.size, (tuple(reader.mean), tuple(reader.std))) == (224, OPENAI)


@pytest.fixture
def language(tmp_path):
    "A BERT of BiomedBERT's size, with a small vocabulary of our own."
    transformers = pytest.importorskip("transformers", reason='needs pip install --editable ".[baselines]"')
    folder = tmp_path / "biomedbert"
    transformers.BertConfig().save_pretrained(folder)
    words = sorted({word for plane in PLANES for s in plane_prompts(plane) for word in s.lower().split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return folder


def test_clip(tmp_path):
    assert open_clip.get_model_config("ViT-L-14-quickgelu") == get_release("clip").config  # with OpenAI's activation
    model = build("clip", None, seed=1).eval()
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    reader = public_reader("clip", tmp_path / "clip.safetensors")
    assert round(parameters(reader.model) / 1e6, 1) == 427.6 and reader.tokens(["a fetal brain"]).shape == (1, 77)
    for tower in (reader.model.visual.transformer, reader.model.transformer):
        assert {type(block.mlp.gelu).__name__ for block in tower.resblocks} == {"QuickGELU"}
    tokens = reader.tokens(["a brain"])
    assert torch.equal(model.encode_text(tokens), reader.model.encode_text(tokens))
    look(reader, 768)


def test_biomedclip(tmp_path, language):
    "Against the model and the tokens that open_clip makes of a folder of the released structure."
    model = build("biomedclip", None, seed=1, language=language)
    positions = {"text.transformer.embeddings.position_ids": torch.arange(512)[None]}  # as the released file has them
    torch.save(model.state_dict() | positions, tmp_path / "biomedclip.bin")
    reader = public_reader("biomedclip", tmp_path / "biomedclip.bin", language=language)
    assert round(parameters(reader.model.visual) / 1e6) == 86
    look(reader, 512)
    config, names = get_release("biomedclip").config, ("hf_model_name", "hf_tokenizer_name")
    config = {"model_cfg": config | {"text_cfg": config["text_cfg"] | dict.fromkeys(names, str(language))},
              "preprocess_cfg": dict(zip(("mean", "std"), OPENAI))}
    (language / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "biomedclip.bin").rename(language / "open_clip_pytorch_model.bin")
    theirs = open_clip.create_model(f"local-dir:{language}", require_pretrained=True).eval()
    sentences, pixels = ["a fetal brain", "an abdomen of a fetus"], torch.randn(2, 3, 224, 224)
    tokens = reader.tokens(sentences)
    assert tokens.shape == (2, 256)
    assert torch.equal(tokens, open_clip.get_tokenizer(f"local-dir:{language}")(sentences))
    with torch.no_grad():  # ours does not compute the padding
        torch.testing.assert_close(reader.model.encode_text(tokens), theirs.encode_text(tokens), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(reader.model.encode_image(pixels), theirs.encode_image(pixels))
    torch.save(model.state_dict() | {name: ids + 1 for name, ids in positions.items()}, tmp_path / "biomedclip.bin")
    with pytest.raises(ValueError, match="does not count 0, 1, 2"):
        public_reader("biomedclip", tmp_path / "biomedclip.bin", language=language)


def test_unimed_clip(tmp_path, language):
    "A file as its trainer writes it, from towers that were put together by hand."
    from transformers import BertConfig, BertModel
    torch.manual_seed(3)
    vision = open_clip.create_model("ViT-B-16-quickgelu").visual.eval()
    text = BertModel(BertConfig(), add_pooling_layer=False).eval()
    linear = partial(torch.nn.Linear, bias=False)
    head = torch.nn.Sequential(linear(768, 640), torch.nn.GELU(), linear(640, 512))
    parts = {"visual": vision, "text_encoder.transformer": text, "text_encoder.proj": head}
    state = {f"module.{part}.{n}": t for part, module in parts.items() for n, t in module.state_dict().items()}
    state |= {"module.logit_scale": torch.tensor(4.6),
              "module.text_encoder.transformer.embeddings.position_ids": torch.arange(512)[None]}
    content = {"epoch": 10, "name": "b16_400m", "state_dict": state, "best_accuracy": np.float64(.6),
               "optimizer": {"state": {0: {"step": torch.tensor(1.)}}, "param_groups": [{"lr": 1e-5, "params": [0]}]}}
    torch.save(content, tmp_path / "unimed.pt")
    reader = public_reader("unimed-clip", tmp_path / "unimed.pt", language=language)
    tokens, pixels = reader.tokens(["a fetal brain", "an abdomen"]), torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        words = head(text(tokens, attention_mask=(tokens != 0).long()).last_hidden_state[:, 0])
        assert F.cosine_similarity(reader.model.encode_text(tokens), words).min() > .9999
        assert F.cosine_similarity(reader.model.encode_image(pixels), vision(pixels)).min() > .9999
    assert round(parameters(reader.model) / 1e6) == 196
    look(reader, 512)


def test_all_are_found(tmp_path, monkeypatch, language):
    "A baseline that reads with a BERT needs two items; what is missing is said, model by model."
    monkeypatch.setattr(paths, "raw", tmp_path)
    monkeypatch.setattr(paths, "data", tmp_path)
    file = tmp_path / "unimed-clip-weights/unimed-clip/unimed-clip-vit-b16.pt"
    save_model(build("unimed-clip", None, seed=1, language=language), file)
    find = partial(find_readers, get_profile("paper"))
    with pytest.raises(NeedsData, match="needs `dark_fetch biomedbert`, for unimed-clip"):
        find()
    (tmp_path / "there").mkdir()
    language.rename(tmp_path / "there/biomedbert")
    (tmp_path / "there").rename(tmp_path / "biomedbert")
    found, absent = find()
    assert [make().name for make in found] == ["unimed-clip"]
    assert absent["biomedclip"] == "needs `dark_fetch biomedclip-weights`"
