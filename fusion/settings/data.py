"""Which cells a command works on."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fusion.settings._base import Lists, LocalOrRemotePath, Names, Pairs, Settings
from fusion.settings.mask_levels import MaskLevelsText

#: Micrometres that a pixel may be long: other numbers are of another unit.
PIXEL_UM = (0.01, 10.0)
#: What is labelled, split and judged.
Unit = Literal["cell", "subject"]

#: Of every command that reads masks.
MASK_LEVELS = Field(
    None,
    description="what the values of masks mean, where that is not clear: background=0,cell=1,nucleus=2, instance=7, "
    "colours as #00ff00, several as 1+255, and channel=alpha in front",
)


class ReadingSettings(Settings):
    """How a data set is read, where it can be read in more than one way."""

    columns: Pairs = Field(
        {}, description="a table's columns by what they are: subject=patient_id,label=Class; others by their own names"
    )
    ignore_columns: Names = Field([], description="a table's columns that are not used on purpose, whatever their name")
    missing: Names = Field([], description="words for what is unknown, beside NA, nan, None, null, - and empty fields")
    patients: LocalOrRemotePath | None = Field(
        None,
        description="a table with a row a patient beside the images: subject, and label, source or fold of each, "
        "joined to the images by their subject",
    )
    patient_columns: Pairs = Field(
        {}, description="that table's columns by what they are: subject=patient_id,label=diagnosis"
    )
    folders: str | None = Field(
        None,
        description="what the folders above images are, a level each: label, subject/label, fold/label, - for nothing, "
        "or none; default a class each, where that is certain",
    )
    masks: Literal["use", "ignore", "cells"] | None = Field(
        None, description="files among the images that are called like masks: use them, ignore them, or measure them"
    )

    @model_validator(mode="after")
    def _columns_of_a_table(self) -> Self:
        if self.patient_columns and self.patients is None:
            raise ValueError("patient_columns: are those of the table of patients, and there is none: say patients")
        return self


class DataSettings(ReadingSettings):
    """Which cells."""

    data: LocalOrRemotePath = Field(description="a C-NMC tree, a folder of class folders, or a CSV/Parquet table")
    part: Literal["train", "validation", "test", "preliminary", "final", "all"] | None = Field(
        None, description="part of a C-NMC release, or of a folder with folders train and test"
    )
    class_names: Lists = Field(
        {},
        description="the data's classes by other names, as neutrophil=SNE,BNE,lymphocyte=LY; several may become one, "
        "and all other keys mean the new names",
    )
    classes: Names = Field([], description="only these classes")
    folds: Names = Field([], description="only these folds")
    sources: Names = Field([], description="only these sources")
    mask_levels: MaskLevelsText | None = MASK_LEVELS
    source: str | None = Field(None, description="source of all cells whose data set names none")
    dataset: str | None = Field(
        None, description="the public data set that it is, by its name in fusion datasets; most are known again"
    )
    store: LocalOrRemotePath | None = Field(
        None, description="feature store; default $FUSION_CACHE or the cache folder"
    )
