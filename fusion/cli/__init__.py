"""The command line, one file a command: parse, call one workflow, print.

``group`` finds the file of the command that is asked for, and imports no other: ``fusion --help`` answers at once.
``options`` makes a command's options of its settings' own descriptions, ``runner`` runs it so that every end is one
clear message and an exit code, and ``console`` prints.
"""

from fusion.cli.group import fusion, main

__all__ = ["fusion", "main"]
