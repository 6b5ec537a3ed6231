"A text tower and a tokenizer of Hugging Face are kept with the model that was distilled with them."
import json

import open_clip
import pytest
import torch

from dark.models.named import beside_text, open_model, save_named

transformers = pytest.importorskip("transformers", reason='needs pip install --editable ".[baselines]"')


@pytest.fixture
def teacher(tmp_path):
    "A small model with a BERT, in open_clip's layout."
    folder = tmp_path / "teacher"
    bert = transformers.BertConfig(vocab_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                   intermediate_size=32, max_position_embeddings=16)
    bert.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fetal", "brain", "head"]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
            "hf_model_pretrained": False, "context_length": 8}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    statistics = {"mean": [.5] * 3, "std": [.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": statistics}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=False, pretrained_hf=False)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def test_student_keeps_its_tokenizer(tmp_path, teacher):
    "Also where the teacher is no more."
    student = beside_text("resnet18", open_model(str(teacher)))
    save_named(student, tmp_path / "student")
    sentences = ["a fetal brain", "a head"]
    before = student.tokens(sentences)
    assert before.shape == (2, 8) and len(set(before[0].tolist())) == 6  # start, three words, end, padding
    with torch.no_grad():
        said = student.model.encode_text(before)
    teacher.rename(tmp_path / "elsewhere")
    again = open_model(str(tmp_path / "student"))
    assert str(tmp_path) not in (tmp_path / "student/open_clip_config.json").read_text()
    assert torch.equal(again.tokens(sentences), before)
    with torch.no_grad():
        torch.testing.assert_close(again.model.encode_text(again.tokens(sentences)), said)
    born_again = beside_text("resnet18", again, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(born_again.model.encode_text(before), said)
