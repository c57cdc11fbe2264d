"""Commands of tspin-mlx in processes of their own: they may load a model, this app never does. No widget in here."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

#: Tests put a program of their own in its place.
COMMAND: list[str] = [sys.executable, "-P", "-m", "tspin_mlx"]

_LONGEST_LINE = 1 << 24


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: its exit code.
        output, errors: what it wrote.
    """

    code: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """Its message and advice, as it told them; else its last words."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        first = next((i for i, line in enumerate(lines) if line.startswith("error: ")), max(0, len(lines) - 1))
        return "\n".join(lines[first:]).removeprefix("error: ") or f"it ended with exit code {self.code}"


def shown(arguments: Sequence[str]) -> str:
    """A command as a person would type it."""
    return shlex.join(["tspin-mlx", *arguments])


async def finished(arguments: Sequence[str]) -> Done:
    """Run a command to its end. Cancelled, it ends the command, too."""
    process = await _started(arguments)
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        await end(process)
        raise
    return Done(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


async def lines_of(arguments: Sequence[str]) -> AsyncIterator[str | int]:
    """The lines that a command writes, on either output, as they come; last its exit code."""
    process = await _started(arguments, joined=True)
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            yield line.decode(errors="replace").rstrip("\r\n")
        yield await process.wait()
    finally:
        await end(process)


async def _started(arguments: Sequence[str], *, joined: bool = False) -> asyncio.subprocess.Process:
    return await spawned(
        [*COMMAND, *arguments],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if joined else asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
        limit=_LONGEST_LINE,
    )


async def spawned(command: Sequence[str], **options: Any) -> asyncio.subprocess.Process:
    """A process. Cancelled while it is being started, it is ended: nobody else would know of it."""
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await end(await starting)
        raise


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and wait until it has: even if cancelled meanwhile, as when the app is left."""
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
