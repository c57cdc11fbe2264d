"""The process that holds the model of a chat: JSON lines to it, and from it. No widget in here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .processes import end, spawned

#: Tests put a program of their own in its place.
COMMAND: list[str] = [sys.executable, "-P", "-m", "tspin_mlx.generation.chat_server"]

_LONGEST_LINE = 1 << 24
_LAST_WORDS = 2000  # characters


class ChatProcess:
    """Answers of some policies of a run, as they are generated.

    Args:
        run: the folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._process: asyncio.subprocess.Process | None = None

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Start it, and give what it says: ``ready``, pieces of ``text`` by ``policy``, ``done``, ``error``.

        The last message is an ``error`` that tells how it ended, unless it was closed. It can then be started anew.
        """
        process = self._process = await spawned(
            [*COMMAND, str(self._run)],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        assert process.stdout is not None and process.stderr is not None
        errors = asyncio.ensure_future(process.stderr.read())
        try:
            async for line in process.stdout:
                with contextlib.suppress(ValueError):  # what a library prints is no message
                    message = json.loads(line)
                    if isinstance(message, dict):
                        yield message
            code = await process.wait()
        except BaseException:  # nobody listens any more
            self._process = None
            await end(process)
            raise
        said = (await errors).decode(errors="replace").strip()[-_LAST_WORDS:]
        if self._process is not None:
            self._process = None
            last = said.splitlines()[-1] if said else f"exit code {code}"
            yield {"error": f"the chat's process has ended: {last}", "ended": True}

    def ask(self, messages: list[dict[str, str]], policies: list[str]) -> None:
        """Ask policies to answer a conversation."""
        if self._process is not None and self._process.stdin is not None:
            line = json.dumps({"messages": messages, "policies": policies}) + "\n"
            self._process.stdin.write(line.encode())

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
