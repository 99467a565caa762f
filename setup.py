"""Builds the wheel with the recipes of ``configs/`` inside the package; all else is in setup.cfg."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies ``configs/*.yaml`` to ``fusion/configs``, where ``--config NAME`` looks for them."""

    def run(self) -> None:
        """Copy them after the modules; an editable installation reads those of the clone."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "fusion" / "configs"
        self.mkpath(str(target))
        for recipe in sorted(Path("configs").glob("*.yaml")):
            self.copy_file(str(recipe), str(target / recipe.name))


setup(cmdclass={"build_py": BuildWithRecipes})
