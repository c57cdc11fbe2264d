"""Chat subprocess: holds the models of a chat and speaks JSON lines on stdin and stdout. No widgets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .processes import spawn, terminate

#: Tests replace it with a program of their own.
COMMAND: list[str] = [sys.executable, "-P", "-m", "tspin_mlx.generation.chat_server"]

_MAX_LINE_BYTES = 1 << 24
_STDERR_TAIL = 2000  # characters


class ChatProcess:
    """Streams the answers of some policies of a run.

    Args:
        run: the folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._process: asyncio.subprocess.Process | None = None

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Start the process and yield its messages: ``ready``, pieces of ``text`` by ``policy``, ``done``, ``error``.

        The last message is an ``error`` with ``ended`` and the reason, unless :meth:`close` was called. The process
        can then be started again.
        """
        process = self._process = await spawn(
            [*COMMAND, str(self._run)],
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
        )
        assert process.stdout is not None and process.stderr is not None
        stderr = asyncio.ensure_future(process.stderr.read())
        try:
            async for line in process.stdout:
                with contextlib.suppress(ValueError):  # a line that a library printed
                    message = json.loads(line)
                    if isinstance(message, dict):
                        yield message
            exit_code = await process.wait()
        except BaseException:  # cancelled: nobody reads the messages any more
            self._process = None
            await terminate(process)
            raise
        tail = (await stderr).decode(errors="replace").strip()[-_STDERR_TAIL:]
        if self._process is not None:
            self._process = None
            reason = tail.splitlines()[-1] if tail else f"exit code {exit_code}"
            yield {"error": f"the chat process ended: {reason}", "ended": True}

    def ask(self, messages: list[dict[str, str]], policies: list[str]) -> None:
        """Ask policies to answer a conversation."""
        if self._process is not None and self._process.stdin is not None:
            line = json.dumps({"messages": messages, "policies": policies}) + "\n"
            self._process.stdin.write(line.encode())

    def close(self) -> None:
        """Terminate the process, without waiting for it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
