"""What is put on top of a fitted model: calibrated probabilities, and the rule by which classes are predicted."""
