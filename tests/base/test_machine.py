"""The machine: it stays awake while something is computed, and notifies when it is done."""

import os
import subprocess
import sys

import pytest

from tests.support.waiting import until
from tspin_mlx.base import machine
from tspin_mlx.base.machine import NOTIFY, awake, notify


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a program on the path that writes its process and its arguments into a file; gives the file."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def put(name, then=""):
        told, program = tmp_path / "told", tmp_path / name
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' $$ \"$@\" > {told}.partial\nmv {told}.partial {told}\n{then}\n")
        program.chmod(0o755)
        return told

    return put


@pytest.fixture
def caffeinate(stand_in):
    return stand_in("caffeinate", "exec sleep 60")


def test_a_mac_stays_awake_for_as_long_as_the_process_needs(caffeinate, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    @awake()
    def work():
        until(caffeinate.exists)
        return caffeinate.read_text().split()

    for _ in range(2):
        guardian, *arguments = work()
        assert arguments == ["-i", "-s", "-w", str(os.getpid())]
        with pytest.raises(ProcessLookupError):
            os.kill(int(guardian), 0)
        caffeinate.unlink()


def test_elsewhere_nothing_is_started(caffeinate, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    with awake():
        pass
    assert not caffeinate.exists()


def test_a_mac_shows_a_notification_and_no_name_is_a_script(stand_in, monkeypatch):
    told = stand_in("osascript")
    monkeypatch.delenv(NOTIFY, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    name = '" & (do shell script "id") & "'
    notify(name, 61)
    until(told.exists)
    _, *words = told.read_text().splitlines()
    assert words[-1] == name and name not in "".join(words[:-1]) and words[::2] == ["-e", "-e", "-e", name]


def test_no_notification_elsewhere_too_soon_or_unwanted(monkeypatch):
    started = []
    monkeypatch.delenv(NOTIFY, raising=False)
    monkeypatch.setattr(machine.subprocess, "run", lambda command, **options: started.append(command[-1]))
    monkeypatch.setattr(sys, "platform", "linux")
    notify("elsewhere", 61)
    monkeypatch.setattr(sys, "platform", "darwin")
    notify("too soon", 59)
    notify("wanted", 61)
    monkeypatch.setenv(NOTIFY, "0")
    notify("unwanted", 61)
    assert started == ["wanted"]


def test_a_notification_that_cannot_be_shown_does_no_harm(monkeypatch):
    monkeypatch.delenv(NOTIFY, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", "")
    notify("no such program", 61)


@pytest.mark.skipif(sys.platform != "darwin", reason="AppleScript is macOS's")
def test_the_notification_is_a_script_that_compiles(tmp_path):
    words = [word for line in machine._NOTIFICATION for word in ("-e", line)]
    subprocess.run(["osacompile", "-o", str(tmp_path / "note.scpt"), *words], check=True)
