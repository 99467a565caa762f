"""Boosted trees grown by the workers of a Dask cluster: rows go there batch by batch, and none stay here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifiers._row_batches import Batched
from fusion.errors import UsageError
from fusion.features.dask_cluster import ClusterError, connect

if TYPE_CHECKING:
    import xgboost
    from distributed import Client, Future


def grow(
    X: Batched,
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
    settings: dict[str, Any],
    trees: int,
    scheduler: str,
    column_weights: NDArray[np.float32] | None = None,
) -> xgboost.Booster:
    """The trees, by ``xgboost.dask`` on the workers of the cluster at this address.

    Each worker holds its share of the rows, dealt batch by batch in turn, and makes bins of them; what they tell each
    other are histograms. A worker has as many threads as it was started with. Columns are drawn in proportion to
    float32 (d,) ``column_weights``; None for all alike.

    Raises
    ------
    UsageError : Dask is not installed, or the address is none.
    ClusterError : the scheduler does not answer, has no worker, or the workers cannot grow trees.
    ValueError : inf.
    """
    with connect(scheduler) as client:
        try:
            import dask.array
            from xgboost import dask as on_workers
        except ImportError as error:
            raise UsageError("growing trees on a cluster needs Dask", do="pip install 'fusion-cells[dask]'") from error
        try:
            parts = list(_dealt(client, X, codes, weights))
            with client.as_current():
                data, label, weight = (
                    dask.array.concatenate([part.array(name) for part in parts]) for name in ("X", "codes", "weights")
                )
                binned = on_workers.DaskQuantileDMatrix(
                    client,
                    data,
                    label=label,
                    weight=weight,
                    feature_weights=None if column_weights is None else dask.array.from_array(column_weights),
                    max_bin=settings["max_bin"],
                )
                of_workers = {name: value for name, value in settings.items() if name != "nthread"}
                return on_workers.train(client, of_workers, binned, num_boost_round=trees)["booster"]
        except _Infinite as error:
            raise ValueError("Input X contains infinity") from error
        except Exception as error:  # whatever a worker raises, XGBoost's own and Dask's among it
            raise ClusterError(
                f"the workers at {scheduler} cannot grow the trees",
                found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
                do="Install the same versions of fusion-cells and xgboost on every worker, and give them more memory.",
            ) from error


class _Infinite(Exception):
    """A batch holds inf. Caught here, and never shown."""


@dataclass(frozen=True)
class _Part:
    """Some rows, with their codes and weights, in the memory of one worker."""

    futures: dict[str, Future]
    rows: int
    columns: int

    def array(self, name: str) -> Any:
        """What Dask takes for an array."""
        import dask.array

        shape, kind = {
            "X": ((self.rows, self.columns), np.float32),
            "codes": ((self.rows,), np.intp),
            "weights": ((self.rows,), np.float64),
        }[name]
        return dask.array.from_delayed(dask.delayed(self.futures[name]), shape, kind)


def _dealt(client: Client, X: Batched, codes: NDArray[np.intp], weights: NDArray[np.float64]) -> Iterator[_Part]:
    """The batches of ``X``, each sent to the next worker before the next one is read."""
    at, workers = 0, cycle(sorted(client.scheduler_info(n_workers=-1)["workers"]))
    for batch in X.batches():
        if np.isinf(batch).any():
            raise _Infinite
        part = slice(at, at + len(batch))
        at = part.stop
        # As a list: of a mapping Dask would take the names for those of its tasks, the same for every batch.
        sent = client.scatter([batch, codes[part], weights[part]], workers=[next(workers)], hash=False)
        yield _Part(dict(zip(("X", "codes", "weights"), sent, strict=True)), len(batch), batch.shape[1])
