"""``tspin-mlx export`` and ``fuse`` from the command line, with no network at all."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load

from tests.support.small_runs import make_small_run
from tspin_mlx.base.errors import UsageError
from tspin_mlx.cli import main
from tspin_mlx.cli.exports import print_agreement
from tspin_mlx.export.folder import Export
from tspin_mlx.export.source import open_source
from tspin_mlx.models.adapters import load_tensors
from tspin_mlx.models.folder import open_model
from tspin_mlx.models.from_gguf import convert_gguf
from tspin_mlx.runs.run import Run

PROBE = mx.array([[5, 6, 7, 8]])


@pytest.fixture
def offline(monkeypatch):
    """Whoever opens a connection fails."""

    def refuse(*arguments):
        raise AssertionError("the network was used")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def run(small_run, tmp_path):
    return Path(shutil.copytree(small_run, tmp_path / "small", symlinks=True))


@pytest.fixture
def cli(run, monkeypatch, capsys, offline):
    """A command on the run: exit code, stdout, stderr."""

    def call(command, *arguments):
        monkeypatch.setattr(sys, "argv", ["tspin-mlx", command, str(run), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


def names(folder):
    return {path.name for path in Path(folder).iterdir()}


def answers(model, adapter=None):
    loaded, _ = load(str(model), adapter_path=None if adapter is None else str(adapter))
    return np.array(loaded(PROBE))


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("mlx", {"adapters.safetensors"}),
        ("peft", {"adapter_model.safetensors"}),
        ("both", {"adapters.safetensors", "adapter_model.safetensors"}),
    ],
)
def test_adapters(cli, run, tiny_model, form, files):
    code, out, err = cli("export", "--format", form, "--iteration", "1", "--base", "org/tiny")
    folder = Path(out.strip())
    assert code == 0 and folder == run / f"exports/iteration-1-{form}"
    assert names(folder) == {*files, "adapter_config.json", "export.json"}
    if form != "peft":
        np.testing.assert_array_equal(answers(tiny_model, folder), answers(tiny_model, run / "iterations/001/adapter"))
        assert f"--adapter-path {folder}" in err
    if form != "mlx":
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "org/tiny" and config["layers_to_transform"] == [1]
        assert 'base, adapter = "org/tiny"' in err


def test_peft_without_a_known_base_says_so(cli):
    code, out, err = cli("export", "--format", "peft")
    assert code == 0 and "--base OWNER/NAME" in err
    assert json.loads((Path(out.strip()) / "adapter_config.json").read_text())["base_model_name_or_path"] is None


def test_no_export_contains_a_path_of_this_machine(cli, run, tiny_model):
    for arguments in (["export", "--format", "both"], ["export", "--format", "triplets"], ["fuse"]):
        assert cli(*arguments)[0] == 0
    for path in (run / "exports").rglob("*"):
        if path.is_file():
            assert (
                str(tiny_model).encode() not in path.read_bytes() and str(run.parent).encode() not in path.read_bytes()
            )


def test_the_exports_have_digests(cli, run):
    cli("export", "--format", "both", "--iteration", "0")
    exports = Run(run).exports
    assert exports.is_intact("iteration-0-both")
    (exports.root / "iteration-0-both/adapters.safetensors").write_bytes(b"other")
    assert exports.damaged("iteration-0-both") == ["iteration-0-both/adapters.safetensors"]
    code, _, err = cli("export", "--format", "both", "--iteration", "0")
    assert code == 7 and "changed since it was written" in err


def test_the_run_itself_is_as_it_was(cli, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    cli("export", "--format", "both")
    cli("fuse")
    assert {path: path.read_bytes() for path in before} == before
    Run(run).verify()


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".hidden", "", "a b", "manifest.jsonl"])
def test_a_name_of_an_export_leads_nowhere_else(cli, run, name):
    before = names(run.parent)
    code, _, err = cli("export", "--format", "mlx", "--out", name)
    assert code == 2 and "cannot be the name of an export" in err
    assert names(run.parent) == before and not (run / "exports").exists()


def test_fuse(cli, run, tiny_model):
    code, out, err = cli("fuse", "--iteration", "1")
    assert code == 0 and "mean KL" in err and "mlx_lm.generate" in err and "AutoModelForCausalLM" in err
    np.testing.assert_allclose(
        answers(out.strip()), answers(tiny_model, run / "iterations/001/adapter"), rtol=0, atol=1e-4
    )


def test_fuse_that_loses_too_much_keeps_nothing(cli, run):
    code, out, err = cli("fuse", "--quantize", "4", "--max-kl", "0")
    assert code == 1 and out == "" and "was not saved" in err
    assert names(run / "exports") == set()


def test_json_is_all_there_is_on_stdout(cli):
    for arguments in (["fuse", "--quantize", "8", "--max-kl", "9"], ["export", "--format", "triplets"]):
        code, out, _ = cli(*arguments, "--json")
        row = json.loads(out)
        assert code == 0 and Path(row["path"]).is_dir() and row["made"] and "export.json" in row["files"]


def test_the_best_policy_must_be_worth_exporting(tiny_model, tmp_path):
    run = Run(make_small_run(tiny_model, tmp_path, "evaluation.best=exact_match"))  # 0 for all
    assert run.result()["best"] == "base"
    with pytest.raises(UsageError, match="the model before training"):
        open_source(run)
    assert open_source(run, 0).policy == "iterations/000"


def test_a_model_with_code_of_its_own_gives_an_adapter_and_no_fused_model(tiny_model, tmp_path, cli, run):
    own = tmp_path / "own"
    shutil.copytree(tiny_model, own)
    made = make_small_run(own, tmp_path)
    shutil.rmtree(run)
    shutil.copytree(made, run, symlinks=True)
    about = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**about, "model_file": "own.py"}))
    (own / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    fingerprint = open_model(own, "own", trusted=True).fingerprint
    store = Run(run).store
    known = store.read_json("run.json")
    store.remove("run.json")
    store.write_json("run.json", {**known, "model": {**known["model"], "fingerprint": fingerprint}})
    assert cli("export", "--format", "mlx")[0] == 3
    for form in ("mlx", "triplets"):
        assert cli("export", "--format", form, "--trust-remote-code")[0] == 0
    code, _, err = cli("fuse")
    assert code == 3 and "without which a fused model would not load" in err and "export --format mlx" in err
    assert not (tmp_path / "ran").exists()


# --- triplets


def test_triplets_are_trl_s_conversations(cli, run):
    code, out, err = cli("export", "--format", "triplets")
    rows = [json.loads(line) for line in (Path(out.strip()) / "triplets.jsonl").read_text().split("\n") if line]
    assert code == 0 and len(rows) == 16 and "load_dataset" in err
    first, second = rows[0], rows[8]
    assert (first["iteration"], second["iteration"], first["id"]) == (0, 1, second["id"])
    assert first["prompt"][0] == {"role": "system", "content": "Be brief."} and first["prompt"][1]["role"] == "user"
    assert re.fullmatch(r"\[\d\]", first["chosen"][0]["content"])
    assert first["initial"] is None and second["initial"] == first["rejected"]
    assert second["rejected"][0]["role"] == "assistant"


def test_triplets_of_one_iteration(cli):
    _, out, _ = cli("export", "--format", "triplets", "--iteration", "1")
    rows = [json.loads(line) for line in (Path(out.strip()) / "triplets.jsonl").read_text().split("\n") if line]
    assert {row["iteration"] for row in rows} == {1}
    code, _, err = cli("export", "--format", "triplets", "--iteration", "7")
    assert code == 2 and "no triplets of iteration 7" in err


def test_triplets_of_another_template_are_texts(tiny_model, tmp_path, cli, run):
    made = make_small_run(tiny_model, tmp_path, "data.template='{system} Q: {prompt} A:'", "training.iterations=1")
    shutil.rmtree(run)
    shutil.copytree(made, run, symlinks=True)
    _, out, _ = cli("export", "--format", "triplets")
    row = json.loads((Path(out.strip()) / "triplets.jsonl").read_text().split("\n")[0])
    assert row["prompt"].startswith("Be brief. Q: train ") and row["prompt"].endswith(" A:")
    assert isinstance(row["chosen"], str) and isinstance(row["rejected"], str)


# --- GGUF


@pytest.fixture(scope="module")
def smollm(tiny_model, tmp_path_factory):
    """The tiny llama with SmolLM's way of cutting text, and tokens that a GGUF file names."""
    folder = tmp_path_factory.mktemp("smollm")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    bytes_only = {**tokenizer["pre_tokenizer"], "use_regex": True}
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_only],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    marks = dict.fromkeys(("bos_token", "pad_token", "unk_token"), "<|im_start|>")
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **marks}))
    return folder


def test_gguf_is_the_fused_model(smollm, tmp_path, cli, run):
    made = make_small_run(smollm, tmp_path)
    shutil.rmtree(run)
    shutil.copytree(made, run, symlinks=True)
    code, out, err = cli("export", "--format", "gguf", "--iteration", "1")
    assert code == 0, err
    folder = Path(out.strip())
    assert names(folder) == {"model-f16.gguf", "Modelfile", "export.json"}
    assert "ollama create small" in err and 'SYSTEM """Be brief."""' in (folder / "Modelfile").read_text()
    # Our reader of GGUF files, which was written against a file of llama.cpp's, finds the same model and tokenizer.
    convert_gguf(folder / "model-f16.gguf", tmp_path / "back")
    fused = run / "exports/iteration-1-fused"
    ours, theirs = load_tensors(tmp_path / "back/model.safetensors"), load_tensors(fused / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(np.array(ours[name]), np.array(value.astype(mx.float16)), rtol=1e-3, atol=1e-6)
    _, back = load(str(tmp_path / "back"))
    _, tokenizer = load(str(fused))
    text = "<|im_start|>user\nturn 21 lamps on, caf\u00e9?<|im_end|>"
    assert back.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen3"}, "not qwen3"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "scaled RoPE"),
        ({"attention_bias": True}, "biases"),
        ({}, "does not support this tokenizer"),
    ],
)
def test_gguf_is_refused_before_any_work(cli, run, small_run, tiny_model, tmp_path, monkeypatch, change, message):
    config = json.loads((tiny_model / "config.json").read_text())
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    (other / "config.json").write_text(json.dumps({**config, **change}))
    from tspin_mlx.export import gguf

    monkeypatch.setattr(gguf, "fuse", None)  # whoever calls it fails
    with pytest.raises(UsageError, match=message):
        gguf.check_gguf(other)
    if not change:
        code, _, err = cli("export", "--format", "gguf")
        assert code == 2 and message in err and not (run / "exports").exists()


def test_help_is_quick_to_import():
    environment = {**os.environ, "COLUMNS": "200"}
    for command in ("fuse", "export", "push"):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "tspin_mlx", command, "--help"],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert "Example: tspin-mlx" in done.stdout
        assert not re.search(r"\b(mlx_lm|mlx\.core|huggingface_hub)$", done.stderr, re.MULTILINE)


def test_exports_made_before_the_adapters_own_effect_was_measured_are_reported_too(capsys, tmp_path):
    agreement = {"prompts": 1, "positions": 2, "kl": 1e-4, "max_kl": 0.005, "greedy": 1.0}
    print_agreement(Export(tmp_path, {"agreement": agreement}, made=False))
    assert "mean KL 0.0001 nats (at most 0.005 is allowed)," in capsys.readouterr().err
    print_agreement(Export(tmp_path, {"agreement": {**agreement, "adapter_kl": 0.25}}, made=True))
    assert "0.005 is allowed; the adapter itself makes 0.25)" in capsys.readouterr().err
