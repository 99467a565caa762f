"""Classifiers of patients, each of which is a bag of cells: statistics of the bag, and multiple-instance learning."""
