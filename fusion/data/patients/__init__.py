"""Bags of cells: what patients are to whoever learns from them, and the labels that patients have."""
