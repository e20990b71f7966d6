"""The version of this software."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "text-generation-inference"


def read_version() -> str:
    """The installed distribution's version; in a checkout that is not installed, the one it would have."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        return str(project["version"])
