"""The one step of packaging that pyproject.toml cannot express: where conf/ goes.

In the repository it lies at the top, where people look for it and where an editable install reads
it; a wheel holds it as ``imagegram/conf``.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """Copies the configuration into the package that is built."""

    def run(self) -> None:
        """Build the package, then put the configuration into it."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "imagegram" / "conf"
            shutil.rmtree(target, ignore_errors=True)  # an earlier build may have left more
            shutil.copytree("conf", target, ignore=shutil.ignore_patterns("local", "__pycache__"))


setup(cmdclass={"build_py": BuildWithConf})
