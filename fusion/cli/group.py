"""The command ``fusion``: its subcommands, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

from fusion.cli._standard_streams import run_command
from fusion.compute.memory import collect_rarely

#: Command -> its line in ``fusion --help``, in the order in which one needs them. Each has a file of its name, which
#: says the same in the first line of its help; it is written here too so that the list needs none of these files.
COMMANDS = {
    "synthesize": "Make a data set with known truth in OUTPUT.",
    "inspect": "Count classes and subjects, find bad files and leaks.",
    "segment": "Find the cells of every image, and write them as masks.",
    "extract": "Measure every cell once and keep the features in the store.",
    "train": "Judge a classifier on held-out subjects, fit it, save it.",
    "evaluate": "Score labelled cells of new subjects with a MODEL.",
    "predict": "Class and probability of every cell in IMAGES.",
    "explain": "Explain what a MODEL predicts for each cell in IMAGES.",
    "serve": "Show what a MODEL says of images, on a page and by an API.",
    "ablate": "Compare all subsets of feature blocks on held-out cells.",
    "judge": "Judge held-out SCORES of any framework, and compare them.",
    "compare": "Compare two or more RESULTS on the same cells.",
    "plan": "How many subjects would a difference need.",
    "adapt": "Bring a MODEL to a new site by a few labelled cells, or patients, of it.",
    "export": "Write MODEL as one ONNX file.",
    "demo": "Run the whole way on synthetic cells, offline.",
    "settings": "List every key that a command takes, with its meaning.",
    "configs": "List the recipes that come with Fusion, or show one.",
    "doctor": "Tell what this installation has, and what it lacks.",
    "encoders": "List pretrained networks by name, and what they have met.",
    "datasets": "List public data sets, or show one's card and its traps.",
    "plugins": "List installed extractors, classifiers and segmenters.",
    "cache": "List, check, merge or sweep out the feature store.",
}


#: Commands whose files lie in folders of their own: those that only look something up, those that write cells.
_FOLDERS = {
    **dict.fromkeys(
        ("plan", "settings", "configs", "encoders", "datasets", "doctor", "plugins", "cache"), "information"
    ),
    **dict.fromkeys(("synthesize", "segment"), "data_sets"),
}


class Group(click.Group):
    """Commands in the order of ``COMMANDS``, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of this name, out of the file of this name."""
        if name not in COMMANDS:
            return None
        folder = f"{_FOLDERS[name]}." if name in _FOLDERS else ""
        found: click.Command = getattr(import_module(f"fusion.cli.{folder}{name}"), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; ``help NAME`` is ``NAME --help``, and an unknown name is answered with the nearest ones."""
        if args and args[0] == "help":  # as git and docker have it
            if not args[1:]:
                click.echo(ctx.get_help())
                ctx.exit()
            args = [args[1], "--help"]
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from fusion.errors import did_you_mean

            ctx.fail(f"No such command '{args[0]}'. {did_you_mean(args[0], COMMANDS)}".strip())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands out of ``COMMANDS``, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fusion-cells", prog_name="fusion")
def fusion() -> None:
    """What tells a leukaemic cell from a healthy one, compared under splits that cannot leak.

    DATA is a C-NMC 2019 tree, a folder of class folders, or a CSV/Parquet table with a column 'path' and any of
    label, subject, source, group, fold, mask, um_per_px. It may be a URL: s3://bucket/cells.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but some images were skipped.
    """


def main() -> None:
    """Entry point of the ``fusion`` command."""
    collect_rarely()
    run_command(fusion)
