"""Which cells a command works on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fusion.settings._base import LocalOrRemotePath, Names, Settings


class DataSettings(Settings):
    """Which cells."""

    data: LocalOrRemotePath = Field(description="a C-NMC tree, a folder of class folders, or a CSV/Parquet table")
    part: Literal["train", "preliminary", "final", "all"] | None = Field(None, description="part of a C-NMC release")
    classes: Names = Field([], description="only these classes")
    folds: Names = Field([], description="only these folds")
    sources: Names = Field([], description="only these sources")
    source: str | None = Field(None, description="source of all cells whose data set names none")
    store: LocalOrRemotePath | None = Field(
        None, description="feature store; default $FUSION_CACHE or the cache folder"
    )
