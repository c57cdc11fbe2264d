"""Turn exceptions of huggingface_hub (gated, 401, 403, 429, offline ...) into errors with a hint."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import HubError, StorageError
from .text import first_line

_LOGIN = "run `hf auth login` or set HF_TOKEN; create a token at https://huggingface.co/settings/tokens"


@contextmanager
def hub_errors(what: str, repo: str, action: str) -> Iterator[None]:
    """Turn exceptions of huggingface_hub into a :class:`HubError` with a hint.

    No message repeats a URL from the Hub: upload URLs are signed.

    Args:
        what: the repository in words, such as ``model 'org/name'``.
        repo: its id.
        action: the action that failed, as a participle such as ``fetched``.
    """
    from huggingface_hub import errors

    try:
        yield
    except RuntimeError as error:  # large files are sent by threads, which wrap their exceptions
        if not isinstance(error.__cause__, (errors.HTTPError, OSError)):
            raise
        raise _hub_error(error.__cause__, what, repo, action) from None
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:
        raise _hub_error(error, what, repo, action) from None


def _hub_error(error: BaseException, what: str, repo: str, action: str) -> HubError | StorageError:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return HubError(
                f"{what} is gated", hint=f"accept its terms at https://huggingface.co/{repo}, then run `hf auth login`"
            )
        case errors.RepositoryNotFoundError():
            return HubError(
                f"{what} was not found on the Hub",
                hint="check the spelling; if it is private, run `hf auth login` first",
            )
        case errors.LocalTokenNotFoundError():
            return no_token()
        case errors.HFValidationError():
            message = f"{repo!r} cannot be the name of a repository: {first_line(error)}"
            return HubError(message, hint="names look like you/my-model")
        case errors.OfflineModeIsEnabled():
            return offline(what, action)
        case errors.HfHubHTTPError():
            return _refused(what, action, error)
        case errors.HTTPError():  # connection errors
            return HubError(
                f"{what} could not be {action}: the connection to the Hub failed ({type(error).__name__})",
                hint="check the network, then repeat the command: files that have arrived are not sent again",
            )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return StorageError(
            f"{what} could not be {action}: {first_line(error)}",
            hint="free some disk space, or check the permissions of the cache folder",
        )
    return HubError(
        f"{what} could not be {action}: {first_line(error)}",
        hint="check the network; a cached model does not need it",
    )


def no_token() -> HubError:
    """Return the error for a machine without a Hub login."""
    return HubError("no Hugging Face token on this machine", hint=_LOGIN)


def offline(what: str, action: str) -> HubError:
    """Return the error for an action that ``HF_HUB_OFFLINE`` forbids."""
    return HubError(f"{what} could not be {action}: HF_HUB_OFFLINE is set", hint="unset it for this command")


def _refused(what: str, action: str, error: BaseException) -> HubError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    server_message = getattr(error, "server_message", None)
    reason = f": {server_message.splitlines()[0]}" if server_message else ""
    if status == 401:
        return HubError(f"the Hub rejected the token{reason}", hint=_LOGIN)
    if status == 403:
        return HubError(
            f"{what} could not be {action}: the token does not have permission{reason}",
            hint="use a token with write access to that owner's repositories, or a repository of your own",
        )
    if status == 400:
        return HubError(f"{what} could not be {action}: the Hub rejected the request{reason or ' (400)'}")
    if status == 429:
        return HubError(f"{what} could not be {action}: too many requests", hint="wait a few minutes and try again")
    if status is None or status < 500:
        answer = f"the Hub answered {status}{reason}" if status else first_line(error)
        return HubError(
            f"{what} could not be {action}: {answer}",
            hint="check the network; a cached model does not need it",
        )
    return HubError(
        f"{what} could not be {action}: the Hub is having problems ({status})",
        hint="repeat the command later: files that have arrived are not sent again",
    )
