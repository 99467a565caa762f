"""Finished parts of a long comparison on disk, so that a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.io.files import sha256, write_atomically

#: Folder inside a result that holds what an unfinished run has done; it goes when the result is there.
UNFINISHED = "unfinished"

#: Hexadecimal digits of a plan's digest that its folder is called by.
_DIGITS = 16


@dataclass(frozen=True)
class Checkpoint:
    """A folder of arrays by name, valid for one plan only.

    Two plans that could give another number have other digests, and never see each other's arrays.
    """

    folder: Path

    @classmethod
    def of(cls, result: Path, plan: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> Checkpoint:
        """The checkpoint of a plan made of plain values and arrays, inside the folder of its result."""
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode())
        for array in arrays:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return cls(result / UNFINISHED / digest.hexdigest()[:_DIGITS])

    def read(self, name: str) -> NDArray[np.floating[Any]] | None:
        """The array kept under this name, or None where there is none or its checksum is off."""
        try:
            content = (self.folder / f"{name}.npy").read_bytes()
        except OSError:
            return None
        if sha256(content[64:]).encode() != content[:64]:
            return None
        return np.load(BytesIO(content[64:]), allow_pickle=False)

    def read_values(self, name: str) -> dict[str, float]:
        """The plain values kept under this name; none where there are none."""
        try:
            values = json.loads((self.folder / f"{name}.json").read_bytes())
            return {str(key): float(value) for key, value in values.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # damaged is as not there
            return {}

    def keep_values(self, name: str, values: Mapping[str, float]) -> None:
        """Write plain values so that they are there whole or not at all."""
        write_atomically(self.folder / f"{name}.json", json.dumps(dict(values)).encode())

    def keep(self, name: str, array: NDArray[np.floating[Any]]) -> None:
        """Write the array so that it is there whole or not at all."""
        sink = BytesIO()
        np.save(sink, array, allow_pickle=False)
        content = sink.getvalue()
        write_atomically(self.folder / f"{name}.npy", sha256(content).encode() + content)


def forget_unfinished(result: Path) -> None:
    """Remove what unfinished runs have left in the folder of a result: folders called by the digest of a plan.

    Whatever else lies beside them stays.
    """
    for folder in (result / UNFINISHED).glob("[0-9a-f]" * _DIGITS):
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty, or not there
        (result / UNFINISHED).rmdir()
