"""`run` and `resume` as a user meets them: output, exit codes, and one clear message for each mistake."""

import json

import pytest

from tests.support.command_line import cli

GOOD = {"prompt": "say yes", "response": "yes"}


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


def test_a_finished_run_is_shown_once_more_and_not_started_again(task):
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
