"""Fusion as Python people write it: workflows by keywords, a scikit-learn style classifier, progress in notebooks."""
