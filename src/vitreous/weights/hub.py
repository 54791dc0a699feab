"""Files of weights from the Hugging Face hub, through the hub's own client. Knows repositories and no models.

Cache, locks, tokens and settings (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE) are the client's. Added here: the
file on the disk is held against the SHA-256 that the hub states, and whatever goes wrong is one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vitreous.errors import DamagedFile, NoSpace, Unreachable, UsageError
from vitreous.store.files import free_bytes, full_disk_named, sha256_file

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

FILE = "model.safetensors"  # the only kind that is fetched: pickles could run code
_BY_HAND = "--weights FILE, in Python weights=FILE"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """A file on this disk whose contents are known."""

    path: Path
    sha256: str


def fetch(repository: str) -> Fetched:
    """The weights of ``repository`` as a file of the client's cache, fetched unless they are there already.

    A transfer that breaks off goes on where it stopped, as long as it gets on at all; one that was interrupted begins
    anew. A cached file that is not what the hub says is fetched again.

    Raises:
        UsageError: there is no such repository or no such file in it, or it may not be read without leave.
        Unreachable: no network and nothing in the cache, or the hub failed.
        DamagedFile: the file is not what the hub says, and fetching it again is impossible or did not help.
        NoSpace: the disk is full.
    """
    import httpx2
    import huggingface_hub as hub

    with _explained(repository):
        here = hub.try_to_load_from_cache(repository, FILE)
        try:
            stated = _ask(repository)
        except (OSError, httpx2.HTTPError) as error:
            if not isinstance(here, str):
                raise
            _log.info("%s: taken from the cache, as the hub was not asked (%s).", repository, _first_line(error))
            return _verified(repository, Path(here), Path(here).resolve().name)
        with full_disk_named(_folder() / FILE, stated.size or 0):
            if not isinstance(here, str) and free_bytes(_folder()) < (stated.size or 0):
                raise OSError(errno.ENOSPC, "more than the disk has left")
            path = Path(hub.hf_hub_download(repository, FILE))
            try:
                return _verified(repository, path, stated.etag)
            except DamagedFile as error:
                _log.warning("%s It is fetched again.", str(error).partition(";")[0] + ".")
                for place in (path.resolve(), path):
                    place.unlink(missing_ok=True)
                path = Path(hub.hf_hub_download(repository, FILE))
        return _verified(repository, path, stated.etag)


def known(repository: str) -> str | None:
    """The SHA-256 that the hub stated of the file when it came into the cache; None if it never did. Asks nobody."""
    path = _cached(repository)
    stated = path.resolve().name if path else ""
    return stated if _SHA256.fullmatch(stated) else None


def cached(repository: str) -> Fetched | None:
    """The weights as they lie in the cache; None if they do not, or are not what the hub said. Asks nobody."""
    path = _cached(repository)
    if path is None:
        return None
    found = Fetched(path, sha256_file(path))
    return found if known(repository) in (None, found.sha256) else None


def _cached(repository: str) -> Path | None:
    """Where the weights lie in the cache; None if they do not. Wrong settings are left to ``fetch`` to name."""
    with contextlib.suppress(ValueError, OSError):
        import huggingface_hub as hub

        path = hub.try_to_load_from_cache(repository, FILE)
        return Path(path) if isinstance(path, str) else None
    return None


def remedy(repository: str) -> str:
    """What somebody without a network can do, as the end of a sentence."""
    return f"fetch {_address(repository)} on another machine and give it beside pretrained: {_BY_HAND}."


def _ask(repository: str) -> HfFileMetadata:
    """What the hub says of the file: size, and SHA-256 as its ETag."""
    import huggingface_hub as hub
    from huggingface_hub.errors import FileMetadataError

    found = hub.get_hf_file_metadata(_address(repository))
    if found.etag is None or found.commit_hash is None:
        raise FileMetadataError("the answer lacks an ETag or a commit")
    return found


def _verified(repository: str, path: Path, stated: str | None) -> Fetched:
    """The file at ``path`` if its contents are the ``stated`` ones; a mirror may state something that is no SHA-256."""
    sha256 = sha256_file(path)
    if stated is not None and _SHA256.fullmatch(stated) and stated != sha256:
        raise DamagedFile(
            f"{path} is not what the hub says of {repository} (SHA-256 {sha256[:12]}..., not {stated[:12]}...); "
            "delete it and run this again with a network."
        )
    return Fetched(path, sha256)


@contextlib.contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Whatever the client raises becomes one of our errors."""
    import httpx2

    try:
        from huggingface_hub import constants, errors
    except ValueError as error:  # it takes the address apart when it is imported
        raise _no_address(error) from None
    server = constants.ENDPOINT
    try:
        address = _address(repository)
        yield
    except (NoSpace, DamagedFile):
        raise
    except errors.OfflineModeIsEnabled:
        raise Unreachable(
            f"{repository} is not in the cache {_folder()} and HF_HUB_OFFLINE forbids fetching it; unset that, or "
            f"{remedy(repository)}"
        ) from None
    except errors.HfHubHTTPError as error:
        raise _answered(repository, error) from None
    except errors.FileMetadataError as error:
        raise UsageError(f"{server} is no Hugging Face hub ({error}); check HF_ENDPOINT and the proxy.") from None
    except (ValueError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise _no_address(error) from None
    except (httpx2.ConnectError, httpx2.TimeoutException, httpx2.ProxyError) as error:
        raise Unreachable(
            f"{repository} is not in the cache {_folder()} and {server} cannot be reached ({_first_line(error)}); "
            f"{remedy(repository)}"
        ) from None
    except (httpx2.HTTPError, RuntimeError, OSError) as error:  # the client's parts in Rust raise RuntimeError
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UsageError(f"{error.filename} cannot be written; set HF_HOME to a folder of yours.") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Unreachable(f"The transfer of {address} broke off ({_first_line(error)}); run this again.") from None


def _no_address(error: Exception) -> UsageError:
    stated = os.environ.get("HF_ENDPOINT", "")
    return UsageError(f"HF_ENDPOINT {stated!r} is no address of a hub ({_first_line(error)}); correct or unset it.")


def _answered(repository: str, error: Exception) -> UsageError | Unreachable:
    """What an answer that is not the file means."""
    from huggingface_hub import constants, errors

    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return UsageError(f"{repository} holds no {FILE}, and nothing else is fetched; give a file: {_BY_HAND}.")
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return UsageError(f"{repository} needs leave; ask for it at {page}, then set HF_TOKEN or run `hf auth login`.")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)) or status in (401, 404):
        return UsageError(f"There is no public {page}; check the name, and HF_TOKEN if it is a private one.")
    return Unreachable(f"{constants.ENDPOINT} answered {status} for {repository}; try later, or {remedy(repository)}")


def _address(repository: str) -> str:
    import huggingface_hub as hub

    return hub.hf_hub_url(repository, FILE)


def _folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")
