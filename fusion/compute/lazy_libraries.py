"""Libraries that other libraries import and that scoring a cell never asks: loaded when they are asked all the same.

scikit-learn imports ``scipy.stats`` and pandas with its base classes, and XGBoost all of ``sklearn.model_selection``
for the name of one class: together they took a third of the processor time of a prediction.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

#: What is loaded at its first use, and not at its first mention.
_SELDOM_ASKED = ("scipy.stats", "pandas")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a few modules as Python does, and leaves their loading for later."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _SELDOM_ASKED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def load_libraries_when_asked() -> None:
    """From here on, in this process; what is loaded already stays so."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Deferred(ModuleType):
    """``sklearn.model_selection`` while XGBoost is imported: its one class is a call of the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "StratifiedKFold":
            return _stratified_folds
        sys.modules.pop(self.__name__, None)  # another XGBoost, which asks for more
        return getattr(importlib.import_module(self.__name__), name)


def _stratified_folds(*given: Any, **named: Any) -> Any:
    return importlib.import_module("sklearn.model_selection").StratifiedKFold(*given, **named)


def import_xgboost() -> ModuleType:
    """XGBoost with all that it has; scikit-learn's splits, which ``xgboost.cv`` deals by, come when they are asked."""
    name = "sklearn.model_selection"
    if "xgboost" in sys.modules or name in sys.modules:
        return importlib.import_module("xgboost")
    sys.modules[name] = _Deferred(name)
    try:
        return importlib.import_module("xgboost")
    finally:
        if isinstance(sys.modules.get(name), _Deferred):
            del sys.modules[name]
