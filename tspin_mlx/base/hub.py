"""What the Hugging Face Hub and the way to it can refuse, told apart."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import HubError, StorageError
from .text import first_line

_LOGIN = "`hf auth login` asks for one, or set HF_TOKEN; tokens are made on https://huggingface.co/settings/tokens"


@contextmanager
def hub_errors(what: str, repo: str, action: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a :class:`HubError` with the next step.

    No message repeats an address that the Hub gave: those of uploads are signed.

    Args:
        what: the thing in words, such as ``model 'org/name'``.
        repo: its id.
        action: what could not be done to it, such as ``fetched``.
    """
    from huggingface_hub import errors

    try:
        yield
    except RuntimeError as error:  # large files are sent by threads, which wrap what they met
        if not isinstance(error.__cause__, (errors.HTTPError, OSError)):
            raise
        raise _told(error.__cause__, what, repo, action) from None
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:
        raise _told(error, what, repo, action) from None


def _told(error: BaseException, what: str, repo: str, action: str) -> HubError | StorageError:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return HubError(
                f"{what} is gated", hint=f"accept its terms on https://huggingface.co/{repo}, then `hf auth login`"
            )
        case errors.RepositoryNotFoundError():
            return HubError(
                f"{what} was not found on the Hub",
                hint="check the spelling; for a private one, `hf auth login` first",
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
        case errors.HTTPError():  # of the connection
            return HubError(
                f"{what} could not be {action}: the connection to the Hub failed ({type(error).__name__})",
                hint="check the network, then give the same command again: what has arrived is not sent twice",
            )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return StorageError(
            f"{what} could not be {action}: {first_line(error)}",
            hint="make room, or see to the permissions of the cache's folder",
        )
    return HubError(
        f"{what} could not be {action}: {first_line(error)}",
        hint="check the network; a model that is already in the cache needs none",
    )


def no_token() -> HubError:
    """Nobody is logged in."""
    return HubError("there is no Hugging Face token on this machine", hint=_LOGIN)


def offline(what: str, action: str) -> HubError:
    """``HF_HUB_OFFLINE`` forbids it."""
    return HubError(f"{what} could not be {action}: HF_HUB_OFFLINE is set", hint="unset it for this command")


def _refused(what: str, action: str, error: BaseException) -> HubError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    said = getattr(error, "server_message", None)
    reason = f": {said.splitlines()[0]}" if said else ""
    if status == 401:
        return HubError(f"the Hub does not accept the token{reason}", hint=_LOGIN)
    if status == 403:
        return HubError(
            f"{what} could not be {action}: the token has no permission for it{reason}",
            hint="use a token with write access to that owner's repositories, or a repository of your own",
        )
    if status == 400:
        return HubError(f"{what} could not be {action}: the Hub refuses it{reason or ' (400)'}")
    if status == 429:
        return HubError(f"{what} could not be {action}: too many requests", hint="wait some minutes and try again")
    if status is None or status < 500:
        said = f"the Hub answers {status}{reason}" if status else first_line(error)
        return HubError(
            f"{what} could not be {action}: {said}",
            hint="check the network; a model that is already in the cache needs none",
        )
    return HubError(
        f"{what} could not be {action}: the Hub has trouble of its own ({status})",
        hint="give the same command again later: what has arrived is not sent twice",
    )
