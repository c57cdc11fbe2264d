"""Commands in subprocesses: exit codes, error messages and cancellation."""

import asyncio
import sys

import pytest

from tspin_mlx.tui.state import processes
from tspin_mlx.tui.state.processes import CommandResult, run_command, stream_command


def test_commands_return_their_exit_code_and_error_message(commands):
    result = asyncio.run(run_command(["plan", "broken"]))
    assert (result.exit_code, result.error_message) == (1, "recipe:3: unknown key\n  → did you mean epochs?")
    assert CommandResult(3, "", "").error_message == "the command failed with exit code 3"

    lines = []
    assert asyncio.run(stream_command(["push", "--yes"], lines.append)) == 5
    assert "a note" in lines


def test_a_process_cancelled_while_it_starts_is_terminated(monkeypatch):
    create, started = asyncio.create_subprocess_exec, []

    async def slowly(*command, **options):
        started.append(await create(*command, **options))
        await asyncio.sleep(0.2)
        return started[0]

    async def scenario():
        task = asyncio.ensure_future(processes.spawn([sys.executable, "-c", "import time; time.sleep(600)"]))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    asyncio.run(scenario())
    assert started[0].returncode is not None


SLOW_TO_END = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.4), exit()))
print("ready", flush=True)
time.sleep(600)
"""


def test_terminate_waits_even_if_cancelled():
    async def scenario():
        process = await processes.spawn([sys.executable, "-c", SLOW_TO_END])
        await process.stdout.readline()
        task = asyncio.ensure_future(processes.terminate(process))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return process.returncode

    assert asyncio.run(scenario()) == 0
