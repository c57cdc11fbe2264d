"""Push files to a Hugging Face Hub repository in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import HubError
from ..base.hub import hub_errors, no_token, offline

#: Suffixes of files that may be sent; code is never sent.
_SENT = frozenset(
    {".safetensors", ".json", ".md", ".svg", ".gguf", ".txt", ".jinja", ".model", ".tiktoken", ""}
)  # "" is LICENSE


@dataclass(frozen=True)
class Target:
    """A repository on the Hub.

    Attributes:
        repo: ``owner/name``.
        exists: whether it already exists.
        private: whether only its owners see it, or will.
        others: existing files, which stay.
    """

    repo: str
    exists: bool
    private: bool
    others: tuple[str, ...]


@dataclass(frozen=True)
class Pushed:
    """A finished push.

    Attributes:
        url: of the repository.
        commit: the new commit, 40 hex digits.
    """

    url: str
    commit: str


def find_target(repo: str, *, public: bool) -> Target:
    """Ask the Hub who the user is and whether the repository exists, before anything is made or sent.

    Args:
        repo: ``owner/name``, or a name for a repository of the user.
        public: whether everybody may see it.

    Raises:
        HubError: no token or a bad one, no such owner, offline, or the repository is public against ``public``.
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
            info = api.model_info(full)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Target(full, exists=False, private=not public, others=())
    if not info.private and not public:
        raise HubError(
            f"{full} already exists and is public",
            hint="use --public to push to it anyway, or another name for a private one",
        )
    return Target(full, True, bool(info.private), tuple(sorted(file.rfilename for file in info.siblings or ())))


def push(target: Target, files: Mapping[str, Path | bytes], message: str) -> Pushed:
    """Send everything in one commit: the repository gets all of it or stays unchanged.

    An interrupted push can be repeated: large files that have arrived are not sent again.

    Args:
        files: local files or contents, by name in the repository.

    Raises:
        HubError: of the matching kind.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if odd := [name for name in files if Path(name).suffix not in _SENT]:
        raise HubError(f"{odd[0]} cannot be sent: only weights, configuration, tokenizers and cards can")
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
    """Return the number of bytes to send."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size
