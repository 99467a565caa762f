"""Values as JSON knows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def with_nan(value: Any) -> Any:
    """``value`` as it was before ``without_nan``: None stands for NaN."""
    if isinstance(value, Mapping):
        return {name: with_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [with_nan(part) for part in value]
    return math.nan if value is None else value


def without_nan(value: Any) -> Any:
    """``value`` with None for every NaN and plain numbers for NumPy's, since JSON knows neither."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    if hasattr(value, "tolist"):
        return without_nan(value.tolist())
    return None if isinstance(value, float) and math.isnan(value) else value
