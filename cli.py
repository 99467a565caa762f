"""The door of a clone: ``python cli.py`` is the command ``fusion``, which an installation has as a script."""

from fusion.cli import fusion, main

__all__ = ["fusion", "main"]

if __name__ == "__main__":
    main()
