"""No code of a model runs unless it is trusted, no pickle is opened, and names lead nowhere else."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from mlx_lm.models import llama

from tests.support.small_runs import new_run, write_task
from tspin_mlx.base.errors import RecipeError, SetupError, StorageError, UsageError
from tspin_mlx.engine.worker import work
from tspin_mlx.jobs.launch import prepare, run_path
from tspin_mlx.models.folder import load_tokenizer, open_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.schema import LoraSection
from tspin_mlx.runs.create import create_run
from tspin_mlx.runs.run import find_run

#: A model's own code: it leaves a sign that it ran, and is then a llama.
CODE = """
from pathlib import Path
Path({canary!r}).touch()
from mlx_lm.models.llama import Model, ModelArgs
"""


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "code-has-run"


@pytest.fixture
def model(tmp_path, tiny_model, canary):
    """A model that brings code for its architecture."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_file": "own.py"}))
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    return folder


def test_the_code_of_a_model_does_not_run(model, canary):
    with pytest.raises(SetupError, match=r"its own Python code \(own.py\), which was not run") as caught:
        open_model(model, "own")
    assert "--trust-remote-code" in caught.value.hint
    assert not canary.exists()


def test_the_code_of_a_trusted_model_runs(model, canary):
    policy = load_policy(open_model(model, "own", trusted=True), "auto", LoraSection(rank=2), 0)
    assert canary.exists()
    assert policy.model.args.model_type == "llama" and isinstance(policy.model.args, llama.ModelArgs)


def test_the_code_of_a_tokenizer_does_not_run(tmp_path, tiny_model, canary):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text(CODE.format(canary=str(canary)) + "class Own: pass\n")
    try:
        load_tokenizer(open_model(folder, "own"))
    except SetupError as error:
        assert "\n" not in error.message
    assert not canary.exists()


class Canary:
    """Unpickling it leaves a sign."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_weights_are_not_opened(tmp_path, tiny_model, canary):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for name in ("pytorch_model.bin", "model.pkl", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(Canary(canary)))
    load_policy(open_model(folder, "both"), "auto", LoraSection(rank=2), 0)  # there are safetensors as well
    (folder / "model.safetensors").unlink()
    with pytest.raises(SetupError) as caught:
        open_model(folder, "pickled")
    assert "never from a pickle" in caught.value.hint
    assert not canary.exists()


def test_a_run_does_not_remember_that_its_model_was_trusted(task, model, canary):
    run = new_run(task, task, f"model={model}", trusted=True)
    canary.unlink(missing_ok=True)
    with pytest.raises(SetupError, match="its own Python code"):
        work(run)
    assert not canary.exists()
    work(run, trusted=True)
    assert run.is_finished and canary.exists()


@pytest.fixture
def task(tmp_path, tiny_model):
    settings = {
        "data.validation": None, "data.validation_size": 2, "data.test": None, "generation.max_tokens": 4,
        "warmup.epochs": 0, "training.iterations": 1,
    }  # fmt: skip
    folder = tmp_path / "task"
    folder.mkdir()
    return write_task(folder, tiny_model, settings, counts={"train": 6})


@pytest.mark.parametrize(
    "name", ["..", ".", "../x", "a/b", "/tmp/x", ".hidden", "-rf", "a b", "é", "x" * 81, "a\n", ""]
)
def test_a_name_of_a_run_leads_nowhere_else(task, name):
    source = find_recipe(str(task / "task.yaml"))
    with pytest.raises(RecipeError):
        parse_source(source, [f"run.name={json.dumps(name)}"])


def test_a_recipes_name_that_would_not_do_as_one_of_a_run_asks_for_another(task):
    odd = task / "my task; rm.yaml"
    (task / "task.yaml").rename(odd)
    source = find_recipe(str(odd))
    with pytest.raises(UsageError, match="cannot be the name of a run") as caught:
        run_path(parse_source(source), source)
    assert "run.name=NAME" in caught.value.hint
    assert run_path(parse_source(source, ["run.name=mine"]), source).name == "mine"


def test_a_run_is_neither_made_nor_found_through_a_link(task, tmp_path):
    source = find_recipe(str(task / "task.yaml"))
    run = new_run(task, tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/task").symlink_to(run.path)
    recipe = parse_source(source, [f"run.folder={tmp_path / 'runs'}"])
    with pytest.raises(UsageError, match="is not a run"):
        prepare(recipe, source)
    for name in ("task", str(tmp_path / "runs/task")):
        with pytest.raises(UsageError, match="not the name or path of a run"):
            find_run(name, tmp_path / "runs")


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_a_run_is_not_found_by_a_name_that_leads_elsewhere(tmp_path, name):
    with pytest.raises(UsageError):
        find_run(name, tmp_path)


def test_a_run_folder_that_is_there_is_never_written_over(task, tmp_path):
    run = new_run(task, tmp_path / "runs")
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    prompts = run.prompts()
    with pytest.raises(StorageError, match="exists already"):
        create_run(run.path, run.plan(), "", run.about["model"], prompts)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before
