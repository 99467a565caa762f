"""Things that predict: scikit-learn classifiers that know their groups and are stored without pickle.

Each is an entry point of ``fusion.classifiers``, found as a stranger's would be: SVM, boosted trees, logistic
regression, and the network in ``classifiers.neural``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from classifiers.boosting import BoostedTreesClassifier as BoostedTreesClassifier
    from classifiers.class_weights import inner_folds as inner_folds
    from classifiers.linear import LogisticClassifier as LogisticClassifier
    from classifiers.svm import SupportVectorClassifier as SupportVectorClassifier

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "boosting": ["BoostedTreesClassifier"],
        "class_weights": ["inner_folds"],
        "linear": ["LogisticClassifier"],
        "svm": ["SupportVectorClassifier"],
    },
)
