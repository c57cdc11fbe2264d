"""Pushing to a double of the Hub with the real huggingface_hub: what arrives, what is refused, what stays secret."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from mlx_lm.utils import load

from tests.support.hub_double import READ_ONLY, TOKEN, Hub
from tspin_mlx.cli import main
from tspin_mlx.runs.run import Run

# huggingface_hub hands file contents to its HTTP client in a way that the client calls old-fashioned.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

BASE = ["--base", "org/tiny-llama"]
SENT = {"README.md", "advantages.svg", "adapter_config.json", "adapter_model.safetensors", "adapters.safetensors",
        "export.json"}  # fmt: skip


@pytest.fixture
def hub(monkeypatch):
    """A Hub on loopback, which huggingface_hub takes for the real one, with a token that may write."""
    double = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", double.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield double
    double.close()


@pytest.fixture
def push(small_run, tmp_path, monkeypatch, capsys):
    """``tspin-mlx push``: exit code, stdout, stderr."""
    run = shutil.copytree(small_run, tmp_path / "small", symlinks=True)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tspin-mlx", "push", str(run), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    call.run = run
    return call


def fetched(hub, repo, folder):
    """The result of ``hf download``, the command on the card, in a process of its own."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "home")}
    command = [Path(sys.executable).with_name("hf"), "download", repo, "--local-dir", folder / "fetched"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return str(folder / "fetched")


def card(files):
    text = files["README.md"].decode()
    return yaml.safe_load(text.split("---\n")[1]), text


def test_a_pushed_repository_is_private_and_complete(hub, push):
    code, out, err = push("my-model", "--yes", *BASE)
    assert code == 0, err
    found = hub.repos["jane/my-model"]
    assert found["private"] and set(found["files"]) == SENT
    assert not [name for name in found["files"] if name.endswith((".py", ".jsonl"))]
    assert out.splitlines() == [f"{hub.url}/jane/my-model", f"commit {found['commit']}"]
    assert "private: only you" in err and "adapters.safetensors" in err and "hf download jane/my-model" in err
    assert len([path for method, path in hub.requests if "/commit/" in path]) == 1


def test_the_card(hub, push):
    push("my-model", "--yes", *BASE)
    files = hub.repos["jane/my-model"]["files"]
    metadata, text = card(files)
    assert metadata == {
        "base_model": "org/tiny-llama",
        "base_model_relation": "adapter",
        "library_name": "mlx",
        "pipeline_tag": "text-generation",
        "tags": ["mlx", "lora", "peft", "t-spin"],
    }
    run = Run(push.run)
    best = run.result()["best"]
    assert f"{run.test()[best]['metrics']['nll']:.3f}" in text and f"{run.test()['base']['metrics']['nll']:.3f}" in text
    assert '<img src="advantages.svg"' in text and files["advantages.svg"].startswith(b"<svg")
    for word in (
        "PeftModel.from_pretrained",
        "mlx_lm.generate",
        "vllm serve",
        "ollama create",
        "2601.08198",
        "Be brief.",
    ):
        assert word in text
    assert "training.learning_rate: 0.01" in text


def test_nothing_of_the_data_and_no_path_is_sent(hub, push, small_run, tiny_model):
    push("my-model", "--yes", *BASE)
    for name, content in hub.repos["jane/my-model"]["files"].items():
        for secret in (str(tiny_model), str(small_run), str(push.run.parent), "validation 0", "train 3", "train.jsonl"):
            assert secret.encode() not in content, (name, secret)


def test_a_pushed_model_loads_in_mlx_lm(hub, push, tiny_model, tmp_path):
    push("my-model", "--yes", *BASE)
    folder = fetched(hub, "jane/my-model", tmp_path)
    there, _ = load(str(tiny_model), adapter_path=folder)
    here, _ = load(str(tiny_model), adapter_path=str((push.run / "best").resolve()))
    probe = mx.array([[5, 6, 7]])
    np.testing.assert_array_equal(np.array(there(probe)), np.array(here(probe)))


def test_a_whole_model(hub, push, tmp_path):
    code, _, err = push("whole", "--yes", "--fused", *BASE)
    assert code == 0, err
    files = hub.repos["jane/whole"]["files"]
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(files)
    metadata, text = card(files)
    assert metadata["base_model_relation"] == "finetune" and metadata["tags"] == ["mlx", "t-spin"]
    assert "The fused model was compared with the unfused one" in text
    load(fetched(hub, "jane/whole", tmp_path))


def test_public_only_on_request(hub, push):
    assert push("open", "--yes", "--public", *BASE)[0] == 0
    assert not hub.repos["jane/open"]["private"]
    code, _, err = push("open", "--yes", *BASE)
    assert code == 5 and "already exists and is public" in err and "--public" in err
    assert push("open", "--yes", "--public", *BASE)[0] == 0


def test_nothing_is_sent_unasked(hub, push):
    code, _, err = push("my-model", *BASE)  # nobody is at the terminal
    assert code == 2 and "--yes" in err
    assert hub.repos == {} and hub.blobs == {}
    assert {method for method, _ in hub.requests} == {"GET"}


def test_other_files_of_the_repository_stay_and_are_listed(hub, push):
    hub.add("jane/mine", **{"notes.txt": b"mine"})
    code, _, err = push("mine", "--yes", *BASE)
    assert code == 0 and "other files there stay: notes.txt" in err
    assert hub.repos["jane/mine"]["files"]["notes.txt"] == b"mine"


def test_an_upload_that_was_cut_is_completed_by_the_same_command(hub, push):
    hub.cut_after = 1
    code, _, err = push("my-model", "--yes", *BASE)
    assert code == 5 and "the connection to the Hub failed" in err and "repeat the command" in err
    assert hub.repos["jane/my-model"]["files"] == {} and len(hub.blobs) == 1
    hub.cut_after = None
    before = set(hub.blobs)
    hub.requests.clear()
    assert push("my-model", "--yes", *BASE)[0] == 0
    assert set(hub.repos["jane/my-model"]["files"]) == SENT
    assert not before & set(hub.uploads())  # what had arrived was not sent again


@pytest.mark.parametrize(
    ("prepare", "repo", "message", "hint"),
    [
        (lambda hub, env: env.setenv("HF_TOKEN", ""), "x", "no Hugging Face token", "hf auth login"),
        (lambda hub, env: env.setenv("HF_TOKEN", "hf_wrong"), "x", "rejected the token", "hf auth login"),
        (lambda hub, env: env.setenv("HF_TOKEN", READ_ONLY), "x", "the token does not have permission", "write access"),
        (lambda hub, env: None, "somebody/x", "the token does not have permission", "your own"),
        (lambda hub, env: None, "a/b/c", "cannot be the name of a repository", "you/my-model"),
        (lambda hub, env: None, "a--b", "cannot be the name of a repository", "you/my-model"),
        (lambda hub, env: hub.add("jane/x", gated=True), "x", "is gated", "accept its terms"),
        (lambda hub, env: env.setattr(constants, "HF_HUB_OFFLINE", True), "x", "HF_HUB_OFFLINE is set", "unset it"),
        (lambda hub, env: setattr(hub, "trouble", 507), "x", "the Hub is having problems (507)", "later"),
        (lambda hub, env: env.setattr(constants, "ENDPOINT", closed_port()), "x", "connection to the Hub", "network"),
    ],
    ids=[
        "no token",
        "bad token",
        "read-only",
        "not mine",
        "slashes",
        "odd name",
        "gated",
        "offline",
        "trouble",
        "down",
    ],
)
def test_refusals_of_the_hub_are_told_apart(hub, push, monkeypatch, tmp_path, prepare, repo, message, hint):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    prepare(hub, monkeypatch)
    code, out, err = push(repo, "--yes", *BASE)
    assert code == 5 and out == ""
    assert message in err and hint in err and "Traceback" not in err
    assert hub.blobs == {}


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_an_unknown_base_model_is_refused_before_the_hub_is_asked(hub, push):
    code, _, err = push("my-model", "--yes")
    assert code == 2 and "which Hub model" in err and "--base OWNER/NAME" in err
    assert hub.requests == []


def test_json(hub, push):
    code, out, _ = push("my-model", "--yes", "--json", *BASE)
    row = json.loads(out)
    assert code == 0 and row["private"] and row["commit"] == hub.repos["jane/my-model"]["commit"]
    assert set(row["files"]) == SENT and row["files"]["adapters.safetensors"] > 0


def test_the_token_appears_nowhere(hub, push, tmp_path):
    """In a process of its own, as users run it: outputs, files of the run, and the cache; also when it fails."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    for token, expected in ((TOKEN, 0), (READ_ONLY, 5), ("hf_wrong", 5)):
        command = [sys.executable, "-m", "tspin_mlx", "push", str(push.run), f"to-{expected}", "--yes", *BASE]
        done = subprocess.run(command, capture_output=True, env={**environment, "HF_TOKEN": token}, check=False)
        assert done.returncode == expected, done.stderr
        places = [done.stdout, done.stderr, *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]
        assert not [place[:80] for place in places if token.encode() in place or b"signature=secret" in place]
    for content in hub.repos["jane/to-0"]["files"].values():
        assert TOKEN.encode() not in content
