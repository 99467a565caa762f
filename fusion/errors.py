"""The one exception family a user may meet; each member is defined where its cause lives."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


class FusionError(Exception):
    """Something the user can mend, told in the shape every message of Fusion has.

    Parameters
    ----------
    what : one line that names the file or option concerned.
    found : what was there instead of the expected.
    expected : what would have been accepted.
    do : the next step for the reader, an imperative sentence.

    Examples
    --------
    >>> print(FusionError("no cells.csv", expected="a table", do="Write one."))
    no cells.csv
      expected: a table
      Write one.
    """

    #: Exit code of the command line: 2 for wrong use, 1 for a failure on the way.
    exit_code = 1

    def __init__(self, what: str, *, found: str = "", expected: str = "", do: str = "") -> None:
        # Names come from files and may be anything: no error steers a terminal.
        what, found, expected, do = map(_without_controls, (what, found, expected, do))
        self.what, self.found, self.expected, self.do = what, found, expected, do
        super().__init__(what, found, expected, do)

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  found: {self.found}"] if self.found else []
        lines += [f"  expected: {self.expected}"] if self.expected else []
        lines += [f"  {self.do}"] if self.do else []
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep all four parts when the error crosses from a worker process."""
        return _rebuild, (type(self), self.what, self.found, self.expected, self.do)


def _rebuild(kind: type[FusionError], what: str, found: str, expected: str, do: str) -> FusionError:
    return kind(what, found=found, expected=expected, do=do)


def _without_controls(text: str) -> str:
    """The text with control characters written out, but for the ends of lines."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign == "\n" or unicodedata.category(sign) not in ("Cc", "Cs") else repr(sign)[1:-1] for sign in text
    )


class UsageError(FusionError):
    """The command or call itself was wrong: exit code 2."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask "Did you mean 'seed'?", for ``do``: what is nearest to a name that is unknown; "" where nothing is near.

    Parameters
    ----------
    name : as it was given; of a key with dots, what follows the last one is compared.
    known : all there are, in the order that they are offered in.
    """
    from difflib import get_close_matches

    beside, _, wanted = name.rpartition(".")
    last = {key: key.rpartition(".")[2].lower() for key in known}  # 'c' is meant for 'C'
    near = get_close_matches(wanted.lower(), set(last.values()), n=3, cutoff=0.6)
    if wanted.lower() in near:  # right, but elsewhere
        near = [wanted.lower()]
    keys = [
        key
        for word in near
        for key in sorted(last, key=lambda key: key.rpartition(".")[0] != beside)
        if last[key] == word
    ]
    return f"Did you mean {' or '.join(repr(key) for key in keys[:3])}?" if keys else ""


class ConfigError(UsageError):
    """A configuration file or option holds something that the command does not take."""


def reason_in_a_line(error: Exception) -> str:
    """What a library or the system complains of, for ``found``: one line, of a missing file its name and no number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror.lower()}: {error.filename}"
    return " ".join(str(error).split())[:200]
