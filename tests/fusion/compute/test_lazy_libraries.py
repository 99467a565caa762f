"""Libraries that come when they are asked: whatever asks them gets all of them. Each case in a process of its own."""

import subprocess
import sys

import pytest

BEFORE = """
import sys
from fusion.compute.lazy_libraries import import_xgboost, load_libraries_when_asked
load_libraries_when_asked()
import sklearn.base
xgboost = import_xgboost()
assert not {"scipy.stats._stats_py", "pandas.core", "sklearn.metrics"} & set(sys.modules), "loaded"
"""


@pytest.mark.parametrize(
    "ask",
    [
        "import pandas; assert pandas.DataFrame({'a': [1]}).a.sum() == 1",
        "from scipy.stats import rankdata; assert rankdata([2, 1]).tolist() == [2, 1]",
        "import scipy; assert scipy.stats.norm.cdf(0) == 0.5",
        "from sklearn.model_selection import GroupKFold, StratifiedKFold; assert StratifiedKFold(3).n_splits == 3",
        "import numpy; X, y = numpy.eye(20), numpy.arange(20) % 2\n"
        "assert xgboost.XGBClassifier(n_estimators=2).fit(X, y).predict(X).shape == (20,)\n"
        "assert xgboost.cv({}, xgboost.DMatrix(X, label=y), 2, nfold=2, stratified=True).shape == (2, 4)",
    ],
)
def test_what_was_left_for_later_is_all_there_once_it_is_asked(ask):
    done = subprocess.run([sys.executable, "-c", BEFORE + ask], capture_output=True, text=True)
    assert not done.returncode, done.stderr
