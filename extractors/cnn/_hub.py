"""Files of the hub: from its local cache, else fetched once; offline or refused, one clear line and no waiting."""

from __future__ import annotations

import contextlib
import logging
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from extractors.cnn._weights_file import WeightsError
from fusion.io.files import file_sha256, printable

_log = logging.getLogger("fusion")

#: Seconds until the hub counts as unreachable. It answers in one or two; a dead name server takes about ten to fail.
PATIENCE = 12.0

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def fetch(repository: str, name: str, what: str) -> Path:
    """A file in the hub's local cache, downloaded if it is not there yet.

    Parameters
    ----------
    repository : OWNER/NAME.
    name : of the file in it.
    what : the file in words, for what is said of it.

    Raises
    ------
    WeightsError : it cannot be had: offline, unknown, gated; or it is damaged.
    """
    import huggingface_hub

    if not _REPOSITORY.fullmatch(repository):
        raise WeightsError(
            f"{what} could not be fetched",
            found=f"no name of a repository: {printable(repository)[:80]!r}",
            expected="OWNER/NAME of a model on the hub, as in hf-hub:1aurent/vit_small_patch14_224.dinobloom",
        )
    with _silent():
        try:
            cached = huggingface_hub.try_to_load_from_cache(repository, name)
            if not isinstance(cached, str):
                _ask(repository, name)
                _log.info("fetching %s from the hub, once", repository)
                cached = huggingface_hub.hf_hub_download(repository, name)
        except Exception as error:  # the hub's client raises its own, its HTTP library's and the system's
            raise _refusal(repository, name, what, error) from error
    path = Path(cached)
    # The cache names large files by their sha256; where links are not to be had the name says nothing.
    digest = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", digest) and file_sha256(path) != digest:
        raise WeightsError(f"{printable(path)} was damaged after its download", do="Delete it and go online once.")
    return path


def reason_of(error: BaseException) -> str:
    """One line of what first went wrong."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return textwrap.shorten(text, 160, placeholder=" ...") or type(error).__name__


def _refusal(repository: str, name: str, what: str, error: Exception) -> WeightsError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return WeightsError(
            f"{what} could not be fetched",
            found=f"{repository} is gated: its owner asks everyone to accept terms",
            do=f"Accept them on https://huggingface.co/{repository}, then log in with: hf auth login",
        )
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return WeightsError(
            f"{what} could not be fetched",
            found=f"no repository {repository}, or a private one",
            expected="OWNER/NAME of a model on the hub",
            do="Log in with hf auth login if it is private to you.",
        )
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return WeightsError(
            f"{what} could not be fetched",
            found=f"{repository} has no {name}",
            expected="a repository of a timm model: config.json and model.safetensors",
            do="Most networks are at hf-hub:timm/NAME.",
        )
    return WeightsError(
        f"{what} could not be fetched",
        found=reason_of(error),
        do="Go online once, give a file with --weights FILE.safetensors, or try the machinery with --weights random.",
    )


def _ask(repository: str, name: str) -> None:
    """Return if the hub answers for this file, raise what is wrong otherwise, within ``PATIENCE``.

    The download itself would try six times over, half a minute in all. In a thread, because looking up a name knows no
    time limit.
    """
    import huggingface_hub

    failures: list[Exception] = []

    def ask() -> None:
        try:
            url = huggingface_hub.hf_hub_url(repository, name)
            huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
        except Exception as error:  # handed to the caller
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        raise TimeoutError(f"no answer from {huggingface_hub.constants.ENDPOINT} within {PATIENCE:.0f} s")
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Neither bars nor warnings of the hub's client reach the terminal: what goes wrong we say ourselves."""
    from huggingface_hub import utils

    logger = logging.getLogger("huggingface_hub")
    level, had_bars = logger.level, not utils.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils.disable_progress_bars()
        try:
            yield
        finally:
            if had_bars:
                utils.enable_progress_bars()
            logger.setLevel(level)
