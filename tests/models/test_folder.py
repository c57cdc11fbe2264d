"""Models on disk and on the Hub: how they are found, known again, and refused, also for the code that they bring."""

import json
import shutil
from types import SimpleNamespace

import mlx.core as mx
import pytest
from huggingface_hub import errors

from tspin_mlx.base.errors import HubError, SetupError
from tspin_mlx.models import builtin
from tspin_mlx.models.folder import context_length, load_tokenizer, open_model, resolve_model, vocabulary_size
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.schema import LoraSection, ModelSection


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the tiny model that may be changed."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def configure(model, **changes):
    path = model / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def with_code(model, canary):
    """The model, saying that it needs a module of its own, which leaves a trace when it runs."""
    configure(model, model_file="mine.py")
    (model / "mine.py").write_text(
        f"from mlx_lm.models.llama import Model, ModelArgs\nopen({str(canary)!r}, 'w').close()\n"
    )


def test_a_model_that_brings_code_is_refused_before_it_runs(model, tmp_path):
    with_code(model, tmp_path / "canary")
    with pytest.raises(SetupError) as caught:
        open_model(model, "mine")
    assert caught.value.message == f"{model}: the model needs its own Python code (mine.py), which was not run"
    assert "--trust-remote-code" in caught.value.hint
    assert not (tmp_path / "canary").exists()


def test_a_model_that_brings_code_loads_if_it_is_trusted(model, tmp_path):
    with_code(model, tmp_path / "canary")
    folder = open_model(model, "mine", trusted=True)
    assert folder.trusted
    assert not (tmp_path / "canary").exists()
    load_policy(folder, "auto", LoraSection(rank=2), 0)
    assert (tmp_path / "canary").exists()


def test_a_model_is_known_by_its_configuration_and_its_weight_files(model, tiny_model):
    first = open_model(model, "a")
    assert (first.name, first.path, first.trusted) == ("a", model, False)
    assert first.fingerprint == open_model(tiny_model, "b").fingerprint
    (model / "README.md").write_text("not a weight")
    assert open_model(model, "a").fingerprint == first.fingerprint
    configure(model, rope_theta=1.0)
    second = open_model(model, "a")
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"x")
    third = open_model(model, "a")
    (model / "model-00002.safetensors").write_bytes(b"")
    fourth = open_model(model, "a")
    assert len({found.fingerprint for found in (first, second, third, fourth)}) == 4


def test_context_length_and_vocabulary_come_from_the_configuration(model):
    assert (vocabulary_size(open_model(model, "a")), context_length(open_model(model, "a"))) == (258, 256)
    configure(model, vocab_size=None, text_config={"vocab_size": 99}, max_position_embeddings=None)
    assert (vocabulary_size(open_model(model, "a")), context_length(open_model(model, "a"))) == (99, None)
    configure(model, text_config=None)
    with pytest.raises(SetupError, match=r"config\.json: vocab_size is missing"):
        vocabulary_size(open_model(model, "a"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is not a JSON object"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("", "cannot be read"),
    ],
    ids=["list", "torn", "deep", "empty"],
)
def test_a_configuration_that_is_none_is_named(model, content, words):
    (model / "config.json").write_text(content)
    with pytest.raises(SetupError) as caught:
        open_model(model, "a")
    assert caught.value.message.startswith(f"{model / 'config.json'} {words}")


def test_a_tokenizer_that_cannot_be_read_is_named(model):
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()
    with pytest.raises(SetupError, match="the tokenizer cannot be used: ") as caught:
        load_tokenizer(open_model(model, "a"))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("path", "message"),
    [("/no/such/folder", "no such folder"), ("nothing", "not a Hub id"), ("missing.gguf", "no such file")],
)
def test_a_model_that_is_not_there_is_named(path, message):
    with pytest.raises(SetupError, match=message):
        resolve_model(ModelSection(path=path))


@pytest.mark.parametrize("files", [[], ["config.json"], ["config.json", "pytorch_model.bin"], ["model.safetensors"]])
def test_a_folder_without_configuration_or_safe_weights_is_no_model(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(SetupError, match="not a model folder") as caught:
        resolve_model(ModelSection(path=str(tmp_path)))
    assert "never from a pickle" in caught.value.hint


@pytest.fixture
def hub(tiny_model, monkeypatch):
    """A Hub that has every model, and keeps what was asked for."""
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        if isinstance(asked.get("error"), Exception):
            raise asked["error"]
        return str(tiny_model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_code_is_fetched_from_the_hub_only_if_it_is_trusted(hub, tiny_model):
    found = resolve_model(ModelSection(path="org/name", revision="v1"))
    assert (found.path, found.name, found.trusted) == (tiny_model, "org/name", False)
    assert (hub["name"], hub["revision"]) == ("org/name", "v1")
    assert not [pattern for pattern in hub["allow_patterns"] if pattern.endswith((".py", ".bin", "*"))]
    assert "model*.safetensors" in hub["allow_patterns"]
    assert resolve_model(ModelSection(path="org/name"), trusted=True).trusted
    assert "*.py" in hub["allow_patterns"]


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda e, r: e.GatedRepoError("no", response=r), "model 'org/name' is gated", "hf auth login"),
        (lambda e, r: e.RepositoryNotFoundError("no", response=r), "model 'org/name' was not found", "spelling"),
        (
            lambda e, r: e.HfHubHTTPError("500\nmore", response=r),
            "model 'org/name' could not be fetched: 500",
            "network",
        ),
        (lambda e, r: e.LocalEntryNotFoundError("offline"), "model 'org/name' could not be fetched: off", "network"),
        (lambda e, r: OSError("no route"), "model 'org/name' could not be fetched: no route", "network"),
    ],
    ids=["gated", "unknown", "server", "offline", "network"],
)
def test_a_refusal_of_the_hub_is_one_line(hub, make, message, hint):
    hub["error"] = make(errors, SimpleNamespace(headers={}, request=None))
    with pytest.raises(HubError) as caught:
        resolve_model(ModelSection(path="org/name"))
    assert caught.value.message.startswith(message) and "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_a_built_in_model_that_is_not_the_pinned_file_is_refused(tmp_path, monkeypatch):
    def install(scratch):
        file = scratch / "packages" / builtin._FILE
        file.parent.mkdir(parents=True)
        file.write_bytes(b"another")

    monkeypatch.setenv("TSPIN_MLX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builtin, "_install", install)
    with pytest.raises(SetupError, match="wrong sha256"):
        resolve_model(ModelSection(path=builtin.ALIAS))
    assert not builtin.builtin_path().exists()


def test_a_file_that_is_no_gguf_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TSPIN_MLX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "fake.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(SetupError, match="not a GGUF file"):
        resolve_model(ModelSection(path=str(tmp_path / "fake.gguf")))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("what", ["weights", "template", "tokenizer"])
def test_another_model_of_the_same_shape_has_another_fingerprint(model, what):
    before = open_model(model, "m").fingerprint
    assert open_model(shutil.copytree(model, model.with_name("copy")), "m").fingerprint == before
    if what == "weights":
        tensors = mx.load(str(model / "model.safetensors"))
        tensors["model.layers.1.mlp.up_proj.weight"] *= 2
        mx.save_safetensors(str(model / "model.safetensors"), tensors, metadata={"format": "mlx"})
    else:
        file = model / ("tokenizer.json" if what == "tokenizer" else "chat_template.jinja")
        file.write_text(file.read_text() + "\n" if file.exists() else "{{ messages }}")
    assert open_model(model, "m").fingerprint != before


def test_weights_that_are_gone_from_a_cache_are_reported(model):
    (model / "model-2.safetensors").symlink_to(model / "blobs" / "gone")
    with pytest.raises(SetupError, match=r"model-2\.safetensors cannot be read: No such file") as caught:
        open_model(model, "m")
    assert caught.value.hint == "download the model again"
