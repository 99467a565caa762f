"""Writes ``neurocombat.json``: run in an environment of its own with neuroCombat (it wants old NumPy names).

python tests/oracles/neurocombat_values.py tests/oracles/neurocombat.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat


def main(out: Path) -> None:
    """Numbers of two sources with other class shares, and what neuroCombat makes of them."""
    rng = np.random.default_rng(7)
    sources = ["east"] * 14 + ["west"] * 18
    y = ["all" if rng.random() < (0.3 if source == "east" else 0.6) else "hem" for source in sources]
    X = rng.normal(size=(32, 5)) * [1, 2, 0.5, 3, 1] + [0, 4, 1, -3, 2]
    X += np.array([label == "all" for label in y])[:, None] * [1, 0, 0.4, 2, 0]
    X[14:] = X[14:] * [1.4, 0.8, 1.2, 0.7, 1.1] + [1, -2, 0.3, 4, 0]
    X = np.round(X, 4)
    frame = pd.DataFrame({"batch": sources, "label": y})
    plain = neuroCombat(dat=X.T, covars=frame[["batch"]], batch_col="batch")
    protected = neuroCombat(dat=X.T, covars=frame, batch_col="batch", categorical_cols=["label"])["estimates"]
    of = {
        source: {
            name: np.ravel(np.asarray(protected[key])[at]).round(6).tolist()
            for name, key in (("gamma_star", "gamma.star"), ("delta_star", "delta.star"))
        }
        for at, source in enumerate(("east", "west"))
    }
    values = {
        "X": X.tolist(),
        "sources": sources,
        "y": y,
        "harmonised": plain["data"].T.round(6).tolist(),
        "protected": of,
    }
    out.write_text(json.dumps(values))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
