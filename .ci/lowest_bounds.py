"""Print the lowest versions that pyproject.toml allows, as pins for pip.

Usage: lowest_bounds.py [EXTRA ...]: of the dependencies and of the extras named.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?P<extras>\[[^]]*\])?>=(?P<lowest>[0-9][0-9.]*)")


def lowest(requirement: str) -> str:
    """`name>=1.2,<3` as `name==1.2`."""
    found = REQUIREMENT.match(requirement)
    if found is None:
        raise SystemExit(f"{PROJECT.name}: {requirement!r} has no lower bound: resolvers fall back to ancient versions")
    return f"{found['name']}=={found['lowest']}"


def main(extras: list[str]) -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    sys.stdout.write("\n".join(map(lowest, asked)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
