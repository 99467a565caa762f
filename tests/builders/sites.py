"""Tables of painted cells of two sites."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.builders.images import paint, write_image


def site(
    folder: Path, cells: int, seed: int, scale: float, labelled: int | None = None, *, is_green: bool = False
) -> Path:
    """Cells of two sizes, as a table; at scale 1 of the site "home", else of "new". Of those beyond ``labelled`` the
    label is not told; ``is_green`` are cells of no known stain."""
    rows = []
    for at in range(cells):
        radius = scale * (12 + 6 * (at % 2) + np.random.default_rng([seed, at]).normal())
        rgb = paint(1000 * seed + at, side=110, radius=radius)
        write_image(folder / f"{seed}-{at:03d}.png", rgb[..., [1, 0, 2]] if is_green else rgb)
        label = "ab"[at % 2] if labelled is None or at < labelled else ""
        rows.append(f"{seed}-{at:03d}.png,{label},s{seed}-{at // 2},{'home' if scale == 1 else 'new'}")
    table = folder / f"{seed}.csv"
    table.write_text("path,label,subject,source\n" + "\n".join(rows) + "\n")
    return table
