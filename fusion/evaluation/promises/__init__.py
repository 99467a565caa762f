"""Promises about new cells and subjects, with a level; and how they hold on held-out ones."""
