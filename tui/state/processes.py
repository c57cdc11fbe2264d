"""Subprocesses: tspin-mlx commands that may load a model, which the app itself never does. No widgets."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Tests replace it with a program of their own.
COMMAND: list[str] = [sys.executable, "-P", "-m", "tspin_mlx"]

_MAX_LINE_BYTES = 1 << 24


@dataclass(frozen=True)
class CommandResult:
    """The result of a command.

    Attributes:
        exit_code: 0 if it succeeded.
        stdout, stderr: its output.
    """

    exit_code: int
    stdout: str
    stderr: str

    @property
    def error_message(self) -> str:
        """The error message and hint that the command printed; else the last line of its stderr."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        first = next((i for i, line in enumerate(lines) if line.startswith("error: ")), max(0, len(lines) - 1))
        return "\n".join(lines[first:]).removeprefix("error: ") or f"the command failed with exit code {self.exit_code}"


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as one would type it in a shell."""
    return shlex.join(["tspin-mlx", *arguments])


async def run_command(arguments: Sequence[str]) -> CommandResult:
    """Run a command to its end; terminate it when cancelled."""
    process = await _start(arguments, stderr=asyncio.subprocess.PIPE)
    try:
        stdout, stderr = await process.communicate()
    except asyncio.CancelledError:
        await terminate(process)
        raise
    return CommandResult(process.returncode or 0, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


async def stream_command(arguments: Sequence[str], on_line: Callable[[str], None]) -> int:
    """Run a command to its end and return its exit code; terminate it when cancelled.

    Args:
        on_line: called with each line of stdout and stderr as it arrives.
    """
    process = await _start(arguments, stderr=asyncio.subprocess.STDOUT)
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            on_line(line.decode(errors="replace").rstrip("\r\n"))
        return await process.wait()
    finally:
        await terminate(process)


async def _start(arguments: Sequence[str], *, stderr: int) -> asyncio.subprocess.Process:
    return await spawn(
        [*COMMAND, *arguments],
        stdin=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
        limit=_MAX_LINE_BYTES,
    )


async def spawn(
    command: Sequence[str],
    *,
    stdin: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    limit: int = 1 << 16,
) -> asyncio.subprocess.Process:
    """Start a process whose stdout is a pipe; if cancelled meanwhile, terminate it, since nobody else has a handle.

    Args:
        limit: the longest line in bytes.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=stderr, env=env, limit=limit
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await terminate(await starting)
        raise


async def terminate(process: asyncio.subprocess.Process) -> None:
    """Terminate a process and wait until it has ended, even if cancelled meanwhile, as on quitting the app."""
    cancelled = None
    if process.returncode is None:
        process.terminate()
    while process.returncode is None:
        try:
            await process.wait()
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
