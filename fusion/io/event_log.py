"""A log for machines: one JSON object a line, each written out at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fusion.errors import UsageError
from fusion.io.files import printable


class EventLog:
    """Events of a run, added to the end of a file; a run that is killed loses none of its lines.

    Every line has ``time`` (UTC, ISO 8601) and ``event``, and the event's own facts.

    Raises
    ------
    UsageError : the file cannot be written, or holds something else than such lines.
    """

    def __init__(self, path: Path) -> None:
        try:
            if path.is_file() and not _is_log(path):
                raise UsageError(
                    f"--log {printable(path)} is no log: nothing is added to it",
                    expected="a new file, or one that an earlier --log wrote",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UsageError(f"cannot write the log {path}", found=str(error.strerror or error).lower()) from error

    def __call__(self, event: str, **facts: Any) -> None:
        """Add one line."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        self._stream.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _is_log(path: Path) -> bool:
    """Whether a file is empty, or begins with a line of an event."""
    with path.open("rb") as stream:
        line = stream.readline(1 << 16)
    try:
        facts = json.loads(line) if line else {"time": "", "event": ""}
    except (ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and facts.keys() >= {"time", "event"}
