"""The streams and signals that a command begins with, which are not always those one thinks of."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from types import FrameType
from typing import TextIO

import click

from fusion.cli.runner import BROKEN_PIPE, FAILED, INTERRUPTED, forget_output, tell


def open_streams() -> None:
    """Make standard output and error take any text, and leave none of the three closed.

    A file that is opened where one is closed would take its number, and whatever a library prints would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # as long as the process lives
    if sys.stdout is None:
        tell("fusion: standard output is closed\n  Lead it to a file, or to /dev/null where nobody reads it.")
        sys.exit(FAILED)
    for stream in (sys.stdout, sys.stderr):
        _take_any_text(stream)


def _take_any_text(stream: TextIO) -> None:
    """Write out what the encoding of a terminal or of a pipe lacks, instead of ending in the middle."""
    if isinstance(stream, io.TextIOWrapper):  # a notebook's is none, and takes any text
        stream.reconfigure(errors="backslashreplace")


def take_signals() -> None:
    """End on SIGTERM and SIGHUP as on Ctrl-C; what nohup and the like have ignored stays so."""
    if sys.platform == "win32":
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run_command(command: click.Group) -> None:
    """A command line to its end, whatever befalls its output on the way, the list of commands included."""
    try:
        open_streams()
        take_signals()
        command(prog_name="fusion")
    except KeyboardInterrupt:  # before or after the work; that tells more
        tell("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        forget_output()
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG):
            raise
        forget_output()
        tell(f"fusion: cannot print\n  found: {(error.strerror or str(error)).lower()}")
        sys.exit(FAILED)
