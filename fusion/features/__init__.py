"""Features: measured once, stored, and found again.

Extraction over processes or a Dask cluster, the store and its maintenance, blocks and parts of blocks, matrices that
stay on disk, and images decoded once for networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.features.blocks import Block as Block
    from fusion.features.blocks import blocks_of as blocks_of
    from fusion.features.blocks import build_blocks as build_blocks
    from fusion.features.blocks import extract_blocks as extract_blocks
    from fusion.features.blocks import instances as instances
    from fusion.features.blocks import measure as measure
    from fusion.features.blocks import regrouped as regrouped
    from fusion.features.cell_measurement import check_rows as check_rows
    from fusion.features.dask_cluster import ClusterError as ClusterError
    from fusion.features.dask_cluster import check_address as check_address
    from fusion.features.dask_cluster import connect as connect
    from fusion.features.extraction import Extraction as Extraction
    from fusion.features.extraction import extract as extract
    from fusion.features.image_cache import InputTransform as InputTransform
    from fusion.features.image_cache import read_images as read_images
    from fusion.features.store import FeatureStore as FeatureStore
    from fusion.features.store import StoreError as StoreError
    from fusion.features.store_maintenance import compact as compact
    from fusion.features.stored_matrix import StoredRows as StoredRows
    from fusion.features.stored_matrix import is_stored as is_stored
    from fusion.features.stored_matrix import rows_of as rows_of
    from fusion.features.stored_matrix import sample_rows as sample_rows

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "blocks": ["Block", "blocks_of", "build_blocks", "extract_blocks", "instances", "measure", "regrouped"],
        "cell_measurement": ["check_rows"],
        "dask_cluster": ["ClusterError", "check_address", "connect"],
        "extraction": ["Extraction", "extract"],
        "image_cache": ["InputTransform", "read_images"],
        "store": ["FeatureStore", "StoreError"],
        "store_maintenance": ["compact"],
        "stored_matrix": ["StoredRows", "is_stored", "rows_of", "sample_rows"],
    },
)
