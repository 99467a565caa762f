"""Things that predict: scikit-learn classifiers that know their groups and are stored without pickle."""
