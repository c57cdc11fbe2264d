"""A repository on the Hub: what is sent, and sending it in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import HubError
from ..base.hub import hub_errors, no_token, offline

#: What is ever sent, by the ends of names; code never.
_SENT = frozenset(
    {".safetensors", ".json", ".md", ".svg", ".gguf", ".txt", ".jinja", ".model", ".tiktoken", ""}
)  # "" is LICENSE


@dataclass(frozen=True)
class Target:
    """Where to send it, as the Hub sees it.

    Attributes:
        repo: ``owner/name``.
        exists: whether it is there already.
        private: whether only its owners see it, once it is there.
        others: files that are there and stay.
    """

    repo: str
    exists: bool
    private: bool
    others: tuple[str, ...]


@dataclass(frozen=True)
class Pushed:
    """What came of it.

    Attributes:
        url: of the repository.
        commit: its new commit, 40 hex digits.
    """

    url: str
    commit: str


def find_target(repo: str, *, public: bool) -> Target:
    """Ask the Hub who we are and whether the repository is there, before anything is made or sent.

    Args:
        repo: ``owner/name``, or a name, which is then the user's own.
        public: whether everybody may see it.

    Raises:
        HubError: no token or a bad one, no such owner, offline, or the repository is public and was not to be.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    what = f"repository {repo!r}"
    with hub_errors(what, repo, "reached"):
        validate_repo_id(repo)
        if constants.is_offline_mode():
            raise offline(what, "reached")
        if get_token() is None:
            raise no_token()
        api = HfApi()
        user = api.whoami()["name"]
        full = repo if "/" in repo else f"{user}/{repo}"
        try:
            found = api.model_info(full)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Target(full, exists=False, private=not public, others=())
    if not found.private and not public:
        raise HubError(
            f"{full} is there already, and everybody can see it",
            hint="--public pushes to it all the same; another name makes a private one",
        )
    return Target(full, True, bool(found.private), tuple(sorted(file.rfilename for file in found.siblings or ())))


def push(target: Target, files: Mapping[str, Path | bytes], message: str) -> Pushed:
    """Send everything in one commit: the repository has all of it or is as it was.

    What was cut in the middle is simply pushed again: large files that have arrived are not sent twice.

    Args:
        files: what to send by its name there.

    Raises:
        HubError: of the kind that fits.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if odd := [name for name in files if Path(name).suffix not in _SENT]:
        raise HubError(f"{odd[0]} is not sent: only weights, configuration, tokenizers and cards are")
    api = HfApi()
    with hub_errors(f"repository {target.repo!r}", target.repo, "written"):
        if not target.exists:
            api.create_repo(target.repo, private=target.private, exist_ok=True)
        additions: list[Any] = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        done = api.create_commit(target.repo, additions, commit_message=message)
    return Pushed(url=str(done.repo_url), commit=done.oid)


def size_of(content: Path | bytes) -> int:
    """Bytes to send."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size
