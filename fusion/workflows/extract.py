"""``fusion extract``: measure a data set, and write the table and the list of faults where they are wanted."""

from __future__ import annotations

from collections.abc import Callable

from fusion.data.dataset import check_usable, write_faults
from fusion.data.feature_table import check_export
from fusion.errors import UsageError
from fusion.features.blocks import build_blocks, extract_blocks
from fusion.features.extraction import Extraction
from fusion.features.store import FeatureStore
from fusion.io.event_log import EventLog
from fusion.progress import Progress
from fusion.settings.commands import ExtractConfig
from fusion.settings.outputs import one_run_of
from fusion.workflows.loading import read_dataset


@one_run_of
def run_extract(config: ExtractConfig, progress: Progress | None, note: Callable[[str], None]) -> Extraction:
    """Measure what the store lacks; ``note`` is told what has to be known of the data set before that begins.

    Raises
    ------
    UsageError : an unknown block, a part of a family, or a file that no table can be written to.
    """
    if config.export is not None:
        check_export(config.export)
    chosen = build_blocks(config)
    if parts := [block.name for block in chosen if block.part]:
        raise UsageError("families are measured and kept whole", found=", ".join(parts), do="Name the family alone.")
    event_log = EventLog(config.log) if config.log is not None else None
    dataset = read_dataset(config, progress).select(config.classes, config.folds, config.sources)
    for text in dataset.notes:
        note(text)
    found = extract_blocks(
        dataset,
        chosen,
        FeatureStore(config.store),
        jobs=config.jobs,
        scheduler=config.scheduler,
        progress=progress,
        event_log=event_log,
    )
    if config.faults is not None:
        write_faults(config.faults, found.faults, dataset.root)
    check_usable(len(found), found.faults)
    if config.export is not None:
        found.save(config.export)
    return found
