"Any pair of models: from the command line, on several processes, with and without a network."
import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dark.data.digits import write_digits
from dark.data.shards import write_shards
from dark.distil.full_size import dark_distil
from dark.models.named import open_model

BIN = Path(sys.executable).parent
WORDS = ["--student", "digits/student", "--teacher", "digits/first", "--data", "digits/few.csv", "--epochs", "2",
         "--batch", "32", "--lr", "1e-3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Digits, a hundred pictures of them, small models, and a teacher that was trained for one epoch."
    folder = tmp_path_factory.mktemp("pair")
    write_digits(folder / "digits")
    for who in ("teacher", "student"):
        file = folder / "digits" / who / "open_clip_config.json"
        config = json.loads(file.read_text())
        config["model_cfg"]["vision_cfg"]["layers"] = config["model_cfg"]["text_cfg"]["layers"] = 1
        file.write_text(json.dumps(config))
    pd.read_csv(folder / "digits/train.csv").iloc[:200].to_csv(folder / "digits/few.csv", index=False)
    run(folder, ["--student", "digits/teacher", "--data", "digits/few.csv", "--recipe", "no-kd", "--epochs", "1",
                 "--batch", "32", "--out", "digits/first"])
    return folder


def run(folder, words, launcher=()):
    "What the command prints; here, or started by a launcher."
    if not launcher:
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as told:
            assert dark_distil(words) == 0
        return told.getvalue()
    done = subprocess.run([*launcher, str(BIN / "dark_distil"), *words], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_processes_share_a_batch_as_one_would_have_it(folder):
    "torchrun and accelerate, two and four processes: the losses and the weights of one."
    launchers = {"one": (), "two": (str(BIN / "torchrun"), "--no-python", "--nproc-per-node", "2"),
                 "four": (str(BIN / "accelerate"), "launch", "--cpu", "--no_python", "--num_processes", "4",
                          "--num_machines", "1", "--dynamo_backend", "no", "--mixed_precision", "no")}
    for name, launcher in launchers.items():
        told = run(folder, [*WORDS, "--out", name], launcher)
        assert told.count("2 epochs of 3 batches of 32 pairs: 6 steps") == 1
    one, *others = (load_file(folder / name / "open_clip_model.safetensors") for name in launchers)
    logs = [pd.read_json(folder / name / "log.jsonl", lines=True)["loss"].tolist() for name in launchers]
    start = open_model(str(folder / "digits/student"), 0, weights=False).model.state_dict()
    assert (one["visual.proj"] - start["visual.proj"]).abs().max() > 1e-3
    for weights, losses in zip(others, logs[1:]):
        assert losses == pytest.approx(logs[0], abs=1e-5)
        torch.testing.assert_close(weights, one, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "Folders of what one, two and four processes have trained."
    folders = {ranks: tmp_path_factory.mktemp("ranks") for ranks in ("1", "2", "4")}
    for ranks, folder in folders.items():
        done = subprocess.run([BIN / "torchrun", "--nproc-per-node", ranks, "train_ranks.py", folder, "1", "4"],
                              cwd=Path(__file__).parent, capture_output=True, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return folders


@pytest.mark.parametrize("exact", ["1", "4"], ids=["a batch", "four batches at once"])
def test_ranks_train_the_same_weights(trained, exact):
    "In double precision, so that nothing but a wrong gradient could tell them apart."
    found = {ranks: torch.load(folder / exact) for ranks, folder in trained.items()}
    for ranks in ("2", "4"):
        assert found[ranks]["loss"] == pytest.approx(found["1"]["loss"], abs=1e-10)
        torch.testing.assert_close(found[ranks]["weights"], found["1"]["weights"], rtol=0, atol=1e-6)


def test_processes_share_the_asking_of_a_teacher(folder):
    two = (str(BIN / "torchrun"), "--no-python", "--nproc-per-node", "2")
    run(folder, [*WORDS, "--cache", "2", "--out", "asked/two"], two)
    first, = (folder / "asked").glob("teacher-*")
    kept = {path.name: path.read_bytes() for path in first.glob("*.npy")}
    run(folder, [*WORDS, "--cache", "2", "--out", "alone-asked/one"])
    again, = (folder / "alone-asked").glob("teacher-*")
    assert first.name == again.name and sorted(kept) == ["image-000.npy", "image-001.npy", "text.npy"]
    for name, content in kept.items():
        one, other = np.load(io.BytesIO(content)), np.load(again / name)
        np.testing.assert_allclose(one.astype(float), other.astype(float), atol=1e-3)


def test_workers_change_nothing(folder):
    for name, workers in (("alone", "0"), ("helped", "2")):
        run(folder, [*WORDS, "--workers", workers, "--out", name])
    assert (folder / "alone/open_clip_model.safetensors").read_bytes() == \
        (folder / "helped/open_clip_model.safetensors").read_bytes()


def test_a_run_can_be_run_again(folder):
    run(folder, [*WORDS, "--recipe", "static-kd", "--out", "told"])
    run(folder, ["--config", "told/run.toml", "--out", "again"])
    files = [folder / name / "open_clip_model.safetensors" for name in ("told", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    facts = json.loads((folder / "again/run.json").read_text())
    assert facts["data"] == json.loads((folder / "told/run.json").read_text())["data"]


def test_dry_trains_nothing(folder):
    told = run(folder, [*WORDS, "--out", "nothing", "--dry"])
    assert "100 pictures, 100 looked at" in told and "p_ii is" in told and not (folder / "nothing").exists()


def test_open_clip_opens_what_is_written(folder):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder / 'digits/first'}")
    assert preprocess.transforms[0].size == (32, 32) and preprocess.transforms[0].longest == 1
    words = open_clip.get_tokenizer(f"local-dir:{folder / 'digits/first'}")(["a handwritten one"])
    assert model.encode_text(words).shape == (1, 64)


def test_the_card_opens_the_student(folder):
    "Its four lines, in another process, where the folder lies."
    run(folder, [*WORDS, "--out", "carded"])
    card = (folder / "carded/README.md").read_text()
    lines, = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    assert len(lines.splitlines()) == 4
    asked = f"{lines}print(model.training, *model.encode_text(tokenizer(['a handwritten one'])).shape)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "1", "64"]
    facts = json.loads((folder / "carded/run.json").read_text())
    assert all(facts[name] in card for name in ("sha256", "data")) and str(folder) not in card
    (folder / "carded/README.md").write_text("Mine.")
    assert "is yours and stays" in run(folder, [*WORDS, "--out", "carded"])
    assert (folder / "carded/README.md").read_text() == "Mine."


@pytest.mark.parametrize("change, said", [
    (["--teacher", "ViT-B-33"], "neither a folder 'ViT-B-33' nor a model"),
    (["--teacher", "digits/teacher"], "digits/teacher has no weights"),
    (["--teacher", "hf-hub:nobody/nothing"], "cannot be loaded"),
    (["--data", "nowhere.csv"], "there is no nowhere.csv"),
    (["--data", "digit/few.csv"], "there is no digit/few.csv (do you mean digits/few.csv?)"),
    (["--teacher", "digit/teacher"], "(do you mean digits/teacher?)"),
    (["--out", "digits"], "has other files"),
    (["--out", "digits/teacher"], "has other files"),
    (["--student", "timm:resnet50.a1_in1k"], "names weights"),
    (["--data", "digits/test.csv"], "has no column caption"),
    (["--data", "digits/pictures"], "have no caption"),
    (["--batch", "1000"], "fewer than a step of 1000"),
    (["--recipe", "darkest"], "unknown recipe"),
    (["--student", "timm:fastvit_t99"], "timm has no image tower"),
    (["--config", "digits/few.csv"], "is no TOML"),
    (["--tracker", "nobody"], "tracker is 'nobody'"),
    (["--val", "digits/none.csv"], "there is no digits/none.csv"),
    (["--init", "nowhere"], "there are no weights at nowhere"),
    (["--positives", "all"], "choose same-caption"),
    (["--weights", "1::2"], "for 1 data"),
])
def test_what_cannot_be_is_said_in_a_sentence(folder, monkeypatch, capsys, change, said):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = dict(zip(WORDS[::2], WORDS[1::2])) | {"--out": "wrong"} | dict([change])
    assert dark_distil([word for pair in words.items() for word in pair]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("dark_distil: ") and said in lines[-1], lines
    assert not (folder / "wrong/open_clip_model.safetensors").exists()


def test_another_teacher_of_the_same_name_is_noticed(folder, capsys):
    shutil.copytree(folder / "digits/first", folder / "named")
    words = [*WORDS[:2], "--teacher", "named", *WORDS[4:], "--out", "taught"]
    run(folder, words)
    weights = load_file(folder / "named/open_clip_model.safetensors")
    save_file({name: tensor * 1.1 for name, tensor in weights.items()}, folder / "named/open_clip_model.safetensors")
    with contextlib.chdir(folder):
        assert dark_distil(words) == 2
    assert "has a run with other" in capsys.readouterr().err


def test_another_run_does_not_go_on_in_its_folder(folder, monkeypatch, capsys):
    run(folder, [*WORDS, "--out", "mine"])
    held = lambda: {file.name: file.read_bytes() for file in (folder / "mine").iterdir() if file.name[0] != "."}
    before = held()
    monkeypatch.chdir(folder)
    assert dark_distil([*WORDS, "--recipe", "zero-off", "--out", "mine"]) == 2
    assert "mine has a run with recipe 'dark-b2-e-0.8', not 'zero-off': take another" in capsys.readouterr().err
    assert held() == before and {"run.toml", "open_clip_model.safetensors"} <= before.keys()


def test_a_run_goes_on_from_the_middle_of_an_epoch(folder):
    "To the same weights, and with the same lines of its steps; also on another number of processes."
    words = [*WORDS, "--minutes", "0"]
    run(folder, [*words, "--out", "unbroken"])
    stop = "import dark.distil.watch as watch, dark.distil.full_size as full, sys, os\n" \
           "class Stop(watch.StepLog):\n" \
           "    def after_step(self, run):\n" \
           "        super().after_step(run)\n" \
           "        if run.step == 5: os._exit(9)\n" \
           "import dark.distil.pair as pair\n" \
           "pair.StepLog = Stop\n" \
           "full.dark_distil(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", stop, *words, "--out", "broken"], cwd=folder, capture_output=True,
                          text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 9, done.stderr[-2000:]
    assert torch.load(folder / "broken/checkpoint.pt")["step"] == 4
    shutil.copytree(folder / "broken", folder / "shared")
    run(folder, [*words, "--out", "broken"])
    files = [folder / name / "open_clip_model.safetensors" for name in ("unbroken", "broken", "shared")]
    assert files[0].read_bytes() == files[1].read_bytes()
    run(folder, [*words, "--out", "shared"], (str(BIN / "torchrun"), "--no-python", "--nproc-per-node", "2"))
    torch.testing.assert_close(load_file(files[2]), load_file(files[0]), rtol=1e-3, atol=1e-4)


def test_steps_scores_and_tensorboard(folder):
    run(folder, [*WORDS, "--out", "watched", "--val", "digits/test.csv", "--prompts", "digits/prompts.json",
                 "--every", "2", "--tracker", "tensorboard", "--positives", "same-caption"])
    out = folder / "watched"
    assert pd.read_csv(out / "val.csv")["step"].tolist() == [2, 4, 6] and (out / "run.png").is_file()
    steps = pd.read_csv(out / "steps.csv")
    assert steps["step"].tolist() == [6] and 0 <= steps["waiting"][0] <= 1 and steps["pairs_per_second"][0] > 0
    assert list(out.rglob("events.out.tfevents*"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
                                   torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")])
def test_too_little_memory_is_said_in_a_sentence(folder, monkeypatch, capsys, error):
    def fails(_):
        raise error

    monkeypatch.chdir(folder)
    monkeypatch.setattr("dark.distil.full_size.distil_pair", fails)
    assert dark_distil([*WORDS, "--out", "large"]) == 2
    assert "too little memory for this run: take a smaller --batch" in capsys.readouterr().err
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        dark_distil([*WORDS, "--out", "large"])


def test_a_killed_rank_ends_the_others_with_one_sentence(folder):
    "Two processes without a launcher, which would end the other one itself."
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    ranks = []
    for rank in ("0", "1"):
        told = os.environ | {"OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2",
                             "MASTER_ADDR": "localhost", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        words = [str(BIN / "dark_distil"), *WORDS, "--epochs", "900", "--out", "orphan"]
        ranks.append(subprocess.Popen(words, cwd=folder, env=told, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                      text=True))
    try:
        until = time.monotonic() + 300
        while not (folder / "orphan/steps.csv").is_file():
            assert time.monotonic() < until, "no step was taken"
            time.sleep(0.2)
        ranks[1].kill()
        _, said = ranks[0].communicate(timeout=120)
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert ranks[0].returncode == 2, said[-2000:]
    lines = said.replace("\r", "\n").splitlines()
    assert sum(line.startswith("dark_distil: another process of this run has ended") for line in lines) == 1, lines[-5:]
    assert "Traceback" not in said


def test_a_damaged_picture_ends_with_1_beforehand_and_in_a_run(folder, capsys):
    table = pd.read_csv(folder / "digits/few.csv")
    (folder / "digits/cut.png").write_bytes((folder / "digits" / table["path"][0]).read_bytes()[:-30])
    table.replace({"path": {table["path"][0]: "cut.png"}}).to_csv(folder / "digits/cut.csv", index=False)
    words = ["--student", "digits/student", "--recipe", "no-kd", "--data", "digits/cut.csv", "--out", "damaged",
             "--batch", "32", "--epochs", "9"]
    with contextlib.chdir(folder):
        assert dark_distil([*words, "--dry"]) == 1 and "cannot be read: 1, the first:" in capsys.readouterr().out
        assert dark_distil(words) == 1 and "cut.png cannot be read as a picture" in capsys.readouterr().err


def test_shards_have_a_cache_and_a_look_beforehand(folder):
    "Pairs of shards are numbered: a teacher answers once to each view, and --dry reads some of them."
    table = pd.read_csv(folder / "digits/few.csv")
    pictures = [np.asarray(Image.open(folder / "digits" / path)) for path in table["path"]]
    write_shards(folder / "numbered", zip(pictures, table["caption"]), per_shard=60)
    words = [*WORDS[:4], "--data", "numbered", *WORDS[6:], "--out", "kept", "--cache", "2"]
    assert "to 2 views of 200 pictures" in run(folder, words)
    assert len(list(folder.glob("teacher-*-2"))) == 1
    online = [*WORDS[:4], "--data", "numbered", *WORDS[6:], "--samples", "192", "--out", "drawn"]
    run(folder, online)
    assert "200 pictures, 200 looked at" in run(folder, [*words, "--dry"])
    with contextlib.chdir(folder):
        assert dark_distil([*words[:-2], "--dry"]) == 2  # a stream, of which nobody says how much is an epoch
        assert dark_distil([*words, "--samples", "192"]) == 2
