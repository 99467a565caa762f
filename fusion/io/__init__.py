"""Files that are whole or not there, and what is written in them.

Writing so that neither a reader nor a power cut meets half a file; folders of object stores as paths; content hashes,
Arrow arrays, records held as columns, checkpoints of long runs, the event log, and the folder of the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.io.cache_folder import default_store as default_store
    from fusion.io.cache_folder import local_store as local_store
    from fusion.io.content_hash import as_arrow as as_arrow
    from fusion.io.content_hash import distinct as distinct
    from fusion.io.content_hash import positions as positions
    from fusion.io.event_log import EventLog as EventLog
    from fusion.io.files import checksum as checksum
    from fusion.io.files import file_checksum as file_checksum
    from fusion.io.files import file_sha256 as file_sha256
    from fusion.io.files import printable as printable
    from fusion.io.files import replacing as replacing
    from fusion.io.files import sha256 as sha256
    from fusion.io.files import write_atomically as write_atomically
    from fusion.io.json_values import without_nan as without_nan
    from fusion.io.record_columns import Columns as Columns
    from fusion.io.remote_path import Remote as Remote
    from fusion.io.remote_path import RemotePathError as RemotePathError
    from fusion.io.remote_path import as_path as as_path
    from fusion.io.remote_path import is_url as is_url
    from fusion.io.remote_path import join as join
    from fusion.io.remote_path import sizes as sizes
    from fusion.io.remote_path import stamps as stamps
    from fusion.io.remote_path import walk as walk
    from fusion.io.run_checkpoint import Checkpoint as Checkpoint
    from fusion.io.run_checkpoint import forget_unfinished as forget_unfinished

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "cache_folder": ["default_store", "local_store"],
        "content_hash": ["as_arrow", "distinct", "positions"],
        "event_log": ["EventLog"],
        "files": ["checksum", "file_checksum", "file_sha256", "printable", "replacing", "sha256", "write_atomically"],
        "json_values": ["without_nan"],
        "record_columns": ["Columns"],
        "remote_path": ["Remote", "RemotePathError", "as_path", "is_url", "join", "sizes", "stamps", "walk"],
        "run_checkpoint": ["Checkpoint", "forget_unfinished"],
    },
)
