"""Data sets: which cells there are, who they are, and what is known of them.

Readers of C-NMC trees, class folders and tables; the index of files; subjects and groups; the feature table that all
measured numbers travel in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.data.classifier_inputs import CellInputs as CellInputs
    from fusion.data.dataset import Dataset as Dataset
    from fusion.data.dataset import Fault as Fault
    from fusion.data.dataset import Sample as Sample
    from fusion.data.dataset import as_columns as as_columns
    from fusion.data.dataset import content_key as content_key
    from fusion.data.dataset import fault_row as fault_row
    from fusion.data.dataset import load_dataset as load_dataset
    from fusion.data.dataset import load_images as load_images
    from fusion.data.dataset import measured_key as measured_key
    from fusion.data.dataset import sample_name as sample_name
    from fusion.data.dataset import write_faults as write_faults
    from fusion.data.feature_table import AugmentedCells as AugmentedCells
    from fusion.data.feature_table import FeatureTable as FeatureTable
    from fusion.data.feature_table import check_export as check_export
    from fusion.data.feature_table import export as export
    from fusion.data.groups import connected as connected
    from fusion.data.groups import merge_groups as merge_groups
    from fusion.data.groups import merged_subjects as merged_subjects
    from fusion.data.readers import is_image as is_image
    from fusion.data.readers import read_listing as read_listing
    from fusion.data.subjects import canonical as canonical
    from fusion.data.subjects import format_subject as format_subject
    from fusion.data.subjects import identities as identities
    from fusion.data.subjects import recognises as recognises
    from fusion.data.subjects import remembered as remembered

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "classifier_inputs": ["CellInputs"],
        "dataset": [
            "Dataset",
            "Fault",
            "Sample",
            "as_columns",
            "content_key",
            "fault_row",
            "load_dataset",
            "load_images",
            "measured_key",
            "sample_name",
            "write_faults",
        ],
        "feature_table": ["AugmentedCells", "FeatureTable", "check_export", "export"],
        "groups": ["connected", "merge_groups", "merged_subjects"],
        "readers": ["is_image", "read_listing"],
        "subjects": ["canonical", "format_subject", "identities", "recognises", "remembered"],
    },
)
