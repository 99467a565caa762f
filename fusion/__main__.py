"""``python -m fusion``: the command line, where no script ``fusion`` is installed."""

from fusion.cli.group import main

if __name__ == "__main__":
    main()
