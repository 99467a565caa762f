"""Runs a command so that each end it may come to is one clear message and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from fusion.cli._line_breaks import fit
from fusion.dependencies import is_dependency, missing_package
from fusion.errors import FusionError, UsageError
from fusion.io.event_log import EventLog
from fusion.io.files import printable, shown
from fusion.versions import versions

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault

#: Exit codes: done, failed, finished with skipped inputs, interrupted, reader went away. 2, wrong use, is UsageError's.
DONE, FAILED, SKIPPED, INTERRUPTED, BROKEN_PIPE = 0, 1, 3, 130, 141


@dataclass(frozen=True)
class Manner:
    """How a command talks, and where it writes what happened: the options that all commands take."""

    as_json: bool
    debug: bool
    quiet: bool
    verbose: bool
    log: Path | None = None


def run(name: str, work: Callable[[Screen], Sequence[Fault] | None], manner: Manner) -> NoReturn:
    """Do the work of a command, show what it skipped, and leave with the exit code that says how it went."""
    if manner.log is None:
        _run(name, work, manner)
    try:
        log = EventLog(manner.log)
    except FusionError as error:
        _refuse(name, error)
    begun = time.monotonic()
    log("begin", command=name, version=versions()["fusion-cells"])
    try:
        _run(name, work, manner, log)
    except SystemExit as end:
        log("end", command=name, exit_code=end.code, seconds=round(time.monotonic() - begun, 3))
        raise
    finally:
        log.close()


def _run(
    name: str, work: Callable[[Screen], Sequence[Fault] | None], manner: Manner, log: EventLog | None = None
) -> NoReturn:
    try:
        faults = _work(name, work, manner, log)
    except FusionError as error:
        if manner.debug:
            raise
        _refuse(name, error)
    except KeyboardInterrupt:
        tell("interrupted; what was measured is kept, the same command goes on from there")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        forget_output()
        sys.exit(BROKEN_PIPE)
    except ModuleNotFoundError as error:
        if manner.debug:
            raise
        _refuse(name, missing_package(error)) if is_dependency(error) else _own_up(name, error)
    except Exception as error:
        if manner.debug or isinstance(error, click.ClickException):
            raise
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            _refuse(name, _failure(error))
        if isinstance(error, MemoryError):
            _refuse(name, FusionError("not enough memory", found=str(error)[:200], do="Try fewer --jobs."))
        _own_up(name, error)
    sys.exit(SKIPPED if faults else DONE)


#: What a disk, its permissions or a network does to a program that is right.
_OF_THE_MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENXIO,
    errno.EINTR,
    errno.ETIMEDOUT,
}


def _failure(error: OSError) -> FusionError:
    """An error of the machine, as the user is told it."""
    names = [printable(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    where = f"cannot use {names[0]}" if names else "the machine does not let the work be done"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    do = "Free some space and run the same command again; what was measured is kept." if is_full else ""
    return FusionError(where, found=str(error.strerror or error).lower(), do=do)


def tell(text: str) -> None:
    """A message on standard error, which may be closed, or in an encoding that lacks some of its letters."""
    with suppress(OSError):
        click.echo(fit(shown(text), sys.stderr), err=True)


def forget_output() -> None:
    """Lead what is left to be printed nowhere: Python would try it once more when it ends, and complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # not a file of the system's, as under a test
        return


def _work(
    name: str, work: Callable[[Screen], Sequence[Fault] | None], manner: Manner, log: EventLog | None
) -> Sequence[Fault]:
    from fusion.cli.console import Screen
    from fusion.compute import torch_processes

    quiet = manner.quiet or not torch_processes.is_first()
    level = logging.DEBUG if manner.verbose else logging.ERROR if quiet else logging.WARNING
    logging.getLogger("fusion").setLevel(level)
    if torch_processes.count() > 1 and name != "train":
        raise UsageError(
            "only fusion train works in several processes",
            found=f"{torch_processes.count()}, started by torchrun",
            do="Start fusion by itself.",
        )
    screen = Screen(as_json=manner.as_json, quiet=quiet, log=log)
    with screen:
        faults = work(screen) or ()
    screen.faults(faults)
    screen.flush()
    return faults


def _refuse(name: str, error: FusionError) -> NoReturn:
    """Tell an error that the user can mend."""
    from fusion.compute import torch_processes

    if not torch_processes.is_first() and isinstance(error, UsageError):  # the same in all processes, and said once
        torch_processes.let_first_speak()
    else:
        from fusion.cli.console import PrintError

        if isinstance(error, PrintError):
            forget_output()
        tell(f"fusion {name}: {error}")
    sys.exit(error.exit_code)


def _own_up(name: str, error: Exception) -> NoReturn:
    """Tell an error that is ours."""
    tell(
        f"fusion {name}: {type(error).__name__}: {error}\n"
        "  This is a bug in Fusion. Run the command again with --debug and report what it prints."
    )
    sys.exit(FAILED)
