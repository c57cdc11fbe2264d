"""The checks of `doctor`, on this machine and on machines that lack something."""

import json
import platform
import re
import shutil
import sys

import pytest
import typer

from tests.support.command_line import cli
from tspin_mlx.cli.commands.doctor import doctor as doctor_command
from tspin_mlx.engine.worker import work
from tspin_mlx.jobs import doctor
from tspin_mlx.models.builtin import builtin_path


def verdicts(folder):
    return {finding.about: finding for finding in doctor.examine(folder)}


def test_everything_is_looked_at_and_the_exit_code_says_whether_runs_would_work(tmp_path):
    done = cli("doctor", "--json", cwd=tmp_path)
    found = {row["about"]: row for row in json.loads(done.stdout)}
    assert list(found) == ["python", "mlx", "device", "memory", "disk", "model", "hub"]
    assert platform.python_version() in found["python"]["text"]
    assert re.match(r"[\d.]+ GB, of which a run may use [\d.]+ GB$", found["memory"]["text"])
    assert done.returncode == (3 if any(row["verdict"] == "problem" for row in found.values()) else 0)
    assert not list(tmp_path.iterdir())


def test_for_people_it_is_a_line_each_with_what_to_do(tmp_path):
    done = cli("doctor", cwd=tmp_path, HF_TOKEN="", HF_HOME=str(tmp_path / "hf"))
    assert re.search(r"^✓ python +\S+ for \S+$", done.stdout, re.MULTILINE)
    assert re.search(r"^· hub +not logged in.*\n +→ hf auth login", done.stdout, re.MULTILINE)


def test_a_token_is_seen_and_not_shown(tmp_path):
    done = cli("doctor", "--json", cwd=tmp_path, HF_TOKEN="hf_secret")
    assert json.loads(done.stdout)[-1]["text"] == "there is a token"
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_python_under_rosetta_and_an_old_macos_are_problems(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    for machine, system, wanted in (
        ("x86_64", "14.5", "needs a Python for arm64"),
        ("arm64", "13.6.1", "needs macOS 14 or newer"),
        ("arm64", "26.0", "macOS 26.0"),
    ):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        monkeypatch.setattr(platform, "mac_ver", lambda system=system: (system, ("", "", ""), ""))
        found = doctor._python()
        assert found.text.endswith(wanted)
        assert found.verdict == ("ok" if wanted == "macOS 26.0" else "problem")


def test_without_mlx_the_rest_is_still_looked_at(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    found = verdicts(tmp_path)
    assert found["mlx"].verdict == "problem" and found["mlx"].hint == "run scripts/install"
    assert "device" not in found and found["disk"].verdict == "ok"


def test_a_cpu_without_openblas_or_metal_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "on_cpu", lambda: True)
    monkeypatch.setattr(doctor, "has_openblas", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "about fifty times slower" in verdicts(tmp_path)["device"].text
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Metal is not available" in verdicts(tmp_path)["device"].text


def test_a_full_disk_and_a_missing_model_are_worth_a_note(monkeypatch, tmp_path):
    monkeypatch.setenv("TSPIN_MLX_CACHE", str(tmp_path))
    assert builtin_path().is_relative_to(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    found = verdicts(tmp_path / "runs" / "not there yet")
    assert found["disk"].verdict == "note" and found["disk"].text.startswith("1.0 GB are free")
    assert found["model"].verdict == "note" and "93 MB" in found["model"].text


def test_a_run_that_is_killed_makes_the_same_files(tiny_model, tmp_path):
    said = []
    found = doctor.repeats_itself(tmp_path, said.append, str(tiny_model))
    assert found.verdict == "ok", found
    assert re.match(r"\d\d files of two runs, .* killed [12] times, are identical; trained at \d+ tok", found.text)
    assert len(said) == 4


def test_another_end_is_a_problem(tiny_model, tmp_path, monkeypatch):
    made = doctor._small_run

    def otherwise(model, folder, name):
        monkeypatch.setattr(doctor, "_SMALL_RUN", (*doctor._SMALL_RUN, f"run.seed={len(name)}"))
        return made(model, folder, name)

    monkeypatch.setattr(doctor, "_small_run", otherwise)
    monkeypatch.setattr(doctor, "_KILLED_IN", ())
    monkeypatch.setattr(doctor, "_finish", work)  # in this process, since nothing is killed
    found = doctor.repeats_itself(tmp_path, lambda text: None, str(tiny_model))
    assert found.verdict == "problem" and "differ, such as " in found.text and str(tmp_path) in found.hint


def test_a_run_that_fails_says_why(tiny_model, tmp_path, monkeypatch):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    made = doctor._small_run

    def damaged(name, folder, which):
        run = made(name, folder, which)
        (model / "config.json").write_text("{}")
        return run

    monkeypatch.setattr(doctor, "_small_run", damaged)
    with pytest.raises(doctor.TspinError, match=r"undisturbed: .*have changed since the run was created"):
        doctor.repeats_itself(tmp_path, lambda text: None, str(model))


def test_a_trial_that_cannot_be_made_is_a_finding_beside_the_others(monkeypatch, capsys, tmp_path):
    def fail(folder, tell):
        raise doctor.TspinError("no model", hint="fetch it")

    monkeypatch.setattr(doctor, "repeats_itself", fail)
    monkeypatch.setattr(doctor, "examine", lambda folder: [doctor.Finding("disk", "ok", "room")])
    with pytest.raises(typer.Exit):
        doctor_command(folder=tmp_path, determinism=True, as_json=True)
    disk, trial = json.loads(capsys.readouterr().out)
    assert disk["about"] == "disk" and (trial["verdict"], trial["text"], trial["hint"]) == (
        "problem",
        "no model",
        "fetch it",
    )
