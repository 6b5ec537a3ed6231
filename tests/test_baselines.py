"""The paper's baselines through open_clip: their architectures with random weights."""
import json

import pytest
import torch

from dark.frames import to_rgb
from dark.models import parameters
from dark.prompts import PLANES, plane_prompts
from dark.readers import baseline_reader, baselines
from dark.released import OPENAI, get_release
from dark.zeroshot import class_embeddings, classify


def look(reader, width):
    "Two grey frames and all class prompts, as stages 45 and 46 use a reader."
    pixels = to_rgb(torch.randint(256, (2, reader.size, reader.size), dtype=torch.uint8), reader.mean, reader.std)
    with torch.no_grad():
        images = reader.model.encode_image(pixels, normalize=True)
    assert images.shape == (2, width) and torch.allclose(images.norm(dim=1), torch.ones(2), atol=1e-4)
    classes = class_embeddings(reader.model, [reader.tokens(plane_prompts(plane)[:2]) for plane in PLANES])
    assert set(classify(images, classes, list(PLANES))) <= set(PLANES)


@pytest.mark.full
def test_clip():
    architecture, _ = baselines["CLIP"]
    reader = baseline_reader("CLIP", architecture, None, trained=False)
    assert (reader.size, reader.tokens(["a fetal brain"]).shape) == (224, (1, 77))
    assert (tuple(reader.mean), tuple(reader.std)) == (get_release("fetalclip").mean, get_release("fetalclip").std)
    assert round(parameters(reader.model) / 1e6, 1) == 427.6
    assert {type(block.mlp.gelu).__name__ for block in reader.model.visual.transformer.resblocks} == {"QuickGELU"}
    look(reader, 768)


@pytest.mark.full
def test_biomedclip(tmp_path):
    "A BERT of its size, with a small vocabulary of our own, loaded as open_clip loads it from the hub."
    transformers = pytest.importorskip("transformers", reason='needs pip install --editable ".[baselines]"')
    words = sorted({word for plane in PLANES for s in plane_prompts(plane) for word in s.lower().split()})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    transformers.BertConfig().save_pretrained(tmp_path)
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "",
              "timm_proj": "linear", "image_size": 224}
    text = {"hf_model_name": str(tmp_path), "hf_tokenizer_name": str(tmp_path), "hf_model_pretrained": False,
            "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256}
    config = {"model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text},
              "preprocess_cfg": {"mean": OPENAI[0], "std": OPENAI[1]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    reader = baseline_reader("BiomedCLIP", f"local-dir:{tmp_path}", None, trained=False)
    assert (reader.size, reader.tokens(["a fetal brain"]).shape, tuple(reader.mean)) == (224, (1, 256), OPENAI[0])
    look(reader, 512)
