"""Patients as bags of cells: what a classifier of cells says of them, and what a patient's class rests on."""
