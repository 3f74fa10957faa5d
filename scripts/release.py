"""Make a release: check, test, build the same bytes twice, tag.

    python scripts/release.py --dry-run      everything but the tag
    python scripts/release.py                and the tag v<version>; push it by hand

It refuses with every reason at once: versions that differ, no entry in the changelog, changes that are not committed, a
tag that is there. Wheel and source archive are built from what is committed, in two fresh folders, with the time of the
commit (SOURCE_DATE_EPOCH): the same commit gives the same bytes on any day.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import hashlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHECKS = ("make test", "make lint", "make docs")
SUMS = "SHA256SUMS"


class Refused(Exception):
    """Why there is no release."""


def run(words: list[str], folder: Path, **environment: str) -> str:
    """Output of a command; Refused with its last lines where it fails."""
    done = subprocess.run(
        words, cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise Refused(f"{shlex.join(words)} failed:\n{done.stdout[-2000:]}")
    return done.stdout


# --- what must hold before ---


def project(root: Path) -> dict[str, str]:
    about: dict[str, str] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return about


def versions(root: Path) -> dict[str, str]:
    """File -> the version it tells."""

    def of(name: str) -> dict[str, dict[str, str]]:
        loaded: dict[str, dict[str, str]] = yaml.safe_load((root / name).read_text(encoding="utf-8"))
        return loaded

    return {
        "pyproject.toml": project(root)["version"],
        "CITATION.cff": str(of("CITATION.cff")["version"]),
        "conda/recipe.yaml": str(of("conda/recipe.yaml")["context"]["version"]),
    }


def problems(root: Path) -> list[str]:
    """Every reason against a release."""
    told = versions(root)
    version, found = told["pyproject.toml"], []
    found += [f"{name} says {other}, pyproject.toml {version}" for name, other in told.items() if other != version]
    dates = re.findall(rf"^## \[{re.escape(version)}\] - (\S+)$", (root / "CHANGELOG.md").read_text("utf-8"), re.M)
    if len(dates) != 1:
        found.append(f"CHANGELOG.md has no line '## [{version}] - DATE' (or several)")
    elif not is_date(dates[0]):
        found.append(f"CHANGELOG.md dates {version} {dates[0]!r}: a date is YYYY-MM-DD")
    if changed := run(["git", "status", "--porcelain"], root).splitlines():
        found.append(f"not committed: {', '.join(line[3:] for line in changed[:5])}")
    if run(["git", "tag", "--list", f"v{version}"], root).strip():
        found.append(f"the tag v{version} is there already")
    return found


def is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == len("2026-01-31")


# --- building ---


def isolation(root: Path) -> list[str]:
    """Options of `build`: no environment of its own where this one has what the build asks for."""
    required = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    (least,) = (int(found[1]) for name in required if (found := re.fullmatch(r"setuptools>=(\d+)", name)))
    have = importlib.metadata.version("setuptools")
    return ["--no-isolation"] if int(have.partition(".")[0]) >= least else []


def build(root: Path, target: Path) -> list[Path]:
    """Wheel and source archive of what is committed, in `target`."""
    epoch = run(["git", "log", "-1", "--format=%ct"], root).strip()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        run(["git", "worktree", "add", "--detach", str(tree), "HEAD"], root)
        try:
            words = [sys.executable, "-m", "build", *isolation(tree), "--outdir", str(target), str(tree)]
            run(words, tree, SOURCE_DATE_EPOCH=epoch)
        finally:
            run(["git", "worktree", "remove", "--force", str(tree)], root)
    made = sorted(target.glob("*.whl")) + sorted(target.glob("*.tar.gz"))
    for archive in made[1:]:
        repack(archive, int(epoch))
    return made


def repack(archive: Path, epoch: int) -> None:
    """The same files in a fixed order, with one time and no owner: what differs from build to build is gone."""
    with tarfile.open(archive) as old:
        entries = [(entry, old.extractfile(entry)) for entry in sorted(old.getmembers(), key=lambda entry: entry.name)]
        with tempfile.TemporaryFile() as plain:
            with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new:
                for entry, content in entries:
                    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = epoch, 0, 0, "", ""
                    entry.mode, entry.pax_headers = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644, {}
                    new.addfile(entry, content)
            plain.seek(0)
            packed = gzip.compress(plain.read(), mtime=epoch)
    archive.write_bytes(packed)


def sums(files: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def build_twice(root: Path, target: Path) -> dict[str, str]:
    """Archives and their sums in `target`; Refused where a second build gives other bytes."""
    target.mkdir(parents=True, exist_ok=True)
    for old in [*target.glob("*.whl"), *target.glob("*.tar.gz")]:
        old.unlink()
    made = sums(build(root, target))
    with tempfile.TemporaryDirectory() as folder:
        again = sums(build(root, Path(folder)))
    if different := [name for name in made | again if made.get(name) != again.get(name)]:
        raise Refused(f"a second build gave other bytes: {', '.join(different)}")
    lines = [f"{digest}  {name}\n" for name, digest in made.items()]
    (target / SUMS).write_text("".join(lines), encoding="utf-8")
    return made


# --- all of it ---


def release(root: Path, checks: list[str], dry_run: bool) -> str:
    """Go through the steps; gives what to say."""
    if found := problems(root):
        raise Refused("\n".join(found))
    for check in checks:
        run(shlex.split(check), root)
    made = build_twice(root, root / "dist")
    version = project(root)["version"]
    told = [f"{digest}  dist/{name}" for name, digest in made.items()]
    if dry_run:
        return "\n".join([*told, f"ready; without --dry-run the tag v{version} would be set"])
    run(["git", "tag", "--annotate", f"v{version}", "--message", f"Version {version}"], root)
    return "\n".join([*told, f"tagged v{version}; push it by: git push origin v{version}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="do everything but the tag")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository [default: this one]")
    parser.add_argument("--check", action="append", help=f"a command that must succeed [default: {', '.join(CHECKS)}]")
    options = parser.parse_args()
    try:
        told = release(options.root.resolve(), options.check or list(CHECKS), options.dry_run)
    except Refused as why:
        sys.stderr.write(f"no release:\n{why}\n")
        return 1
    sys.stdout.write(f"{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
