"""The command line as a user meets it: outputs, exit codes, and one clear message for each mistake."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tspin_mlx.cli.app import app

GOOD = {"prompt": "say yes", "response": "yes"}


def cli(*args, cwd, **env):
    """Run the command in a process of its own, as in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "tspin_mlx", *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **env},
        check=False,
    )


@pytest.fixture
def task(tmp_path, tiny_model):
    """A folder with a small recipe and its data."""
    rows = [GOOD | {"prompt": f"say yes {i} times"} for i in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        f"""description: A task.
model: {tiny_model}
lora: {{rank: 2}}
data: {{train: train.jsonl, validation_size: 4}}
generation: {{max_tokens: 8}}
warmup: {{epochs: 1}}
training: {{iterations: 1, epochs: 1}}
evaluation: {{samples: 1}}
"""
    )
    return tmp_path


def test_a_run_in_a_pipe_speaks_in_lines_and_leaves_a_run(task):
    done = cli("run", "task.yaml", cwd=task)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "step 1/1  loss" in done.stderr and "current " in done.stderr
    assert "after warm-up" in done.stdout and "iteration 0" in done.stdout and "★" in done.stdout
    assert "before" in done.stdout and "after" in done.stdout
    assert (task / "runs/task/best/adapters.safetensors").is_file()
    again = cli("run", "task.yaml", cwd=task)
    assert again.returncode == 0
    assert "finished already" in again.stderr
    assert again.stdout == done.stdout
    listed = json.loads(cli("runs", "ls", "--json", cwd=task).stdout)
    assert [(row["name"], row["state"]) for row in listed] == [("task", "finished")]
    shown = cli("runs", "show", "task", cwd=task)
    assert shown.stdout == done.stdout
    assert "task" in cli("runs", "ls", cwd=task).stdout
    assert cli("run", "task.yaml", "--fork", "2", cwd=task).returncode == 0
    assert (task / "runs/2/best/adapters.safetensors").is_file()


def test_json_is_one_event_per_line_and_nothing_else(task):
    done = cli("run", "task.yaml", "--json", cwd=task)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["kind"] == "run_started" and events[-1]["kind"] == "run_finished"
    assert done.stderr == ""


def seventeenth(row):
    return [GOOD] * 16 + [row]


MISTAKES = {
    "misspelt key": (["training.epocs=1"], None, "unknown key training.epocs", "did you mean epochs?"),
    "missing file": (["data.train=nowhere.jsonl"], None, "nowhere.jsonl: no such file", ""),
    "value out of range": (["training.learning_rate=-1"], None, "greater than 0", ""),
    "broken row": (
        [],
        [*map(json.dumps, [GOOD] * 16), '{"prompt": '],
        "train.jsonl:17: not valid JSON",
        "fix",
    ),
    "empty answer": (
        [],
        seventeenth({"prompt": "x", "response": ""}),
        "train.jsonl:17: 'response' is empty",
        "fix",
    ),
    "long prompt": (
        [],
        seventeenth({"prompt": "x" * 3000, "response": "yes"}),
        "train.jsonl:17: 3019 prompt + 4 answer tokens do not fit into 256",
        "skip_bad_rows",
    ),
    "too few rows": (["data.validation_size=50"], None, "too few", "validation_size"),
    "unwanted name": (["run.name=../escape"], None, "run.name", ""),
    "unknown model": (["model=nothing"], None, "not a Hub id", "smollm2-135m"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_and_leaves_nothing(task, mistake):
    overrides, rows, message, hint = MISTAKES[mistake]
    if rows is not None:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (task / "train.jsonl").write_text("\n".join(lines) + "\n")
    before = sorted(task.glob("**/*"))
    done = cli("run", "task.yaml", *overrides, cwd=task)
    assert done.returncode == (3 if mistake == "unknown model" else 2), done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0]
    assert hint in done.stderr
    assert done.stdout == ""
    assert sorted(task.glob("**/*")) == before


def test_bad_rows_can_be_skipped_and_are_counted(task):
    with (task / "train.jsonl").open("a") as file:
        file.write('{"prompt": \n{"prompt": "x", "response": " "}\n')
    done = cli("run", "task.yaml", "data.skip_bad_rows=true", cwd=task)
    assert done.returncode == 0, done.stderr
    assert "skipped  2 rows, the first: train.jsonl:21: not valid JSON" in done.stderr


def test_plan_shows_every_phase_without_a_model(task):
    done = cli("plan", "task.yaml", "model=no/such-model", cwd=task)
    assert done.returncode == 0, done.stderr
    for target in ("base/eval.json", "initial/adapter", "iterations/000/adapter", "result.json"):
        assert target in done.stdout
    row = json.loads(cli("plan", "task.yaml", "--json", cwd=task).stdout)
    assert row["counts"] == {"train": 16, "validation": 4, "test": 0}
    assert [phase["kind"] for phase in row["phases"]][:4] == ["keep", "evaluate", "warmup", "evaluate"]
    assert not (task / "runs").exists()


def test_recipes_can_be_listed_shown_copied_and_validated(tmp_path):
    assert "quickstart" in cli("recipes", "ls", cwd=tmp_path).stdout
    assert "household" in cli("recipes", "show", "quickstart", cwd=tmp_path).stdout
    copied = cli("recipes", "cp", "quickstart", "mine.yaml", cwd=tmp_path)
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "data/household/train.jsonl").is_file()
    assert cli("recipes", "validate", "mine.yaml", cwd=tmp_path).stdout == "mine is valid\n"
    assert cli("plan", "mine.yaml", cwd=tmp_path).returncode == 0
    assert cli("recipes", "cp", "starter", cwd=tmp_path).stdout == "starter.yaml\n"
    again = cli("recipes", "cp", "quickstart", "mine.yaml", cwd=tmp_path)
    assert again.returncode == 2 and "exists already" in again.stderr
    nowhere = cli("recipes", "cp", "starter", "mine.yaml/x.yaml", cwd=tmp_path)
    assert nowhere.returncode == 7 and "could not be written: " in nowhere.stderr


def test_a_run_is_exported_as_a_picture_and_as_numbers(make_run, tmp_path):
    run = make_run("waves")
    done = cli("runs", "export", "waves", "--svg", "curves.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.svg").read_text().startswith("<svg") and done.stdout == "curves.svg\n"
    rows = cli("runs", "export", "waves", "--csv", cwd=tmp_path).stdout.splitlines()
    assert rows[0].startswith("phase,iteration,step,loss") and len(rows) == 1 + 3 * 12
    assert rows[1].startswith("initial/adapter,,1,2.0,")
    numbers = json.loads(cli("runs", "export", "waves", "--json", cwd=tmp_path).stdout)
    assert len(numbers["steps"]["loss"]) == 36 and numbers["steps"]["advantage/current"][0] is None
    assert numbers["best"] == "iterations/001"
    assert cli("runs", "export", "waves", "numbers.json", cwd=tmp_path).returncode == 0
    assert (tmp_path / "numbers.json").exists()
    for words, said in ((["--svg", "--csv"], "one of"), ([], "one of")):
        wrong = cli("runs", "export", "waves", *words, cwd=tmp_path)
        assert wrong.returncode == 2 and said in wrong.stderr
    run.events_path.unlink()
    assert "no optimiser step" in cli("runs", "export", "waves", "--csv", cwd=tmp_path).stderr


def test_schema_describes_every_key(tmp_path):
    schema = json.loads(cli("schema", cwd=tmp_path).stdout)
    sections = [definition for definition in schema["$defs"].values() if "properties" in definition]
    assert len(sections) >= 9
    for section in sections:
        for key, value in section["properties"].items():
            described = schema["$defs"][value["$ref"].rsplit("/", 1)[-1]] if "$ref" in value else value
            assert described.get("description"), f"{section['title']}.{key}"


def commands(command, path=()):
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_every_command_has_help():
    from typer.main import get_command

    for path in commands(get_command(app)):
        result = CliRunner().invoke(app, [*path, "--help"])
        assert result.exit_code == 0, path
        assert "Usage" in result.output


def test_help_loads_nothing_that_it_does_not_need(tmp_path):
    """Each of these takes as long to import as a good part of the command."""
    done = cli("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded and "Usage" in done.stdout
    assert not {"mlx.core", "mlx_lm", "numpy", "pydantic", "textual", "transformers", "huggingface_hub"} & loaded


def test_a_finished_run_is_told_once_more_and_not_started_again(task):
    first = cli("run", "task.yaml", "--json", cwd=task)
    log = task / "runs/task/events.jsonl"
    before = log.read_bytes()
    again = cli("run", "task.yaml", "--json", cwd=task)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert cli("resume", "task", "--json", cwd=task).stdout == first.stdout
    detached = cli("run", "task.yaml", "--json", "--detach", cwd=task)
    assert json.loads(detached.stdout) == {"run": "runs/task", "started": False}
    assert log.read_bytes() == before
    (task / "curve.svg").write_text("mine")
    refused = cli("runs", "export", "task", "curve.svg", cwd=task)
    assert refused.returncode == 2 and "curve.svg exists already" in refused.stderr
    assert (task / "curve.svg").read_text() == "mine"


def test_a_plan_says_what_it_leaves_out(task):
    with (task / "train.jsonl").open("a") as file:
        file.write("not JSON\n")
    done = cli("plan", "task.yaml", "data.skip_bad_rows=true", cwd=task)
    assert done.returncode == 0 and "skipped  1 rows, the first: train.jsonl:21: not valid JSON" in done.stdout
    rows = json.loads(cli("plan", "task.yaml", "data.skip_bad_rows=true", "--json", cwd=task).stdout)["skipped"]
    assert len(rows) == 1 and rows[0].startswith("train.jsonl:21")


LEADS_ON = {
    "a misspelt key that another needs": ("data: {trian: x}\n", ["plan", "x.yaml"], "x.yaml:1: unknown key data.trian"),
    "a recipe for a sweep": ("data: {train: x}\n", ["sweep", "x.yaml"], "x.yaml: this is a recipe, not a sweep"),
    "a sweep without a recipe": ("set: {}\n", ["sweep", "x.yaml"], "for example: recipe: quickstart"),
    "two ways to stop": ("", ["stop", "x", "--now", "--after", "step"], "give --after or --now, not both"),
    "the app in a pipe": ("", ["--folder", "x"], "`tspin-mlx runs ls --folder x` lists the runs"),
    "a folder before the command": ("", ["--folder", "x", "runs", "ls"], "--folder comes after the command"),
    "a picture in no format of ours": ("", ["runs", "export", "x", "x.png"], "a file that ends in .svg, .csv or .json"),
    "a run elsewhere": ("", ["runs", "show", "x", "--folder", "y"], "`tspin-mlx runs ls --folder y` lists the runs"),
}


@pytest.mark.parametrize("name", LEADS_ON)
def test_a_message_leads_on(tmp_path, name):
    text, words, said = LEADS_ON[name]
    (tmp_path / "x.yaml").write_text(text)
    done = cli(*words, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr, done.stderr
