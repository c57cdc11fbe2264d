"""What is asked of the machine: that it stays awake while something is computed."""

import os
import sys

import pytest

from tspin_mlx.machine import awake


@pytest.fixture
def caffeinate(tmp_path, monkeypatch):
    """A stand-in on the path, which writes down how it was called and waits; the file it writes."""
    told, program = tmp_path / "told", tmp_path / "caffeinate"
    program.write_text(f'#!/bin/sh\necho "$$ $@" > {told}\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return told


def test_a_mac_stays_awake_for_as_long_as_the_process_needs(caffeinate, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    @awake()
    def work():
        while not caffeinate.exists() or not caffeinate.read_text().endswith("\n"):
            pass
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
