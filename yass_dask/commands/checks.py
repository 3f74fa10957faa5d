"""`yass verify` and `yass selftest`: what they tell, and whether all is well."""

from __future__ import annotations

from pathlib import Path

HERE = ("threads", "sync", "local")
"""Schedulers whose workers see temporary folders of this machine."""


def run_verify(out: Path) -> tuple[str, bool]:
    """Check the output folder of a sort."""
    from yass_dask.store import Store

    found = Store(out).verify()
    return str(found), found.is_whole


def run_selftest(scheduler: str, workers: int | None, folder: Path | None) -> tuple[str, bool]:
    """Sort a simulated recording here or on a cluster, and tell how that went."""
    from yass_dask import selftest
    from yass_dask.runtime import Executor, available_cores

    executor = Executor(scheduler, workers or available_cores())
    if folder is None and scheduler not in HERE:
        folder = Path("yass-selftest")  # in the current folder, which other hosts may see
    checks, seconds = selftest.run(executor, folder)
    is_well = all(check.is_well for check in checks)
    about = f"{selftest.SECONDS:g} s of {selftest.N_CHANNELS} channels, sorted twice by {scheduler} in {seconds:.0f} s:"
    verdict = (
        "All is well." if is_well else "NOT all is well: do not trust sorts made here; please report the lines above."
    )
    return "\n".join([about, *(f"  {check}" for check in checks), verdict]), is_well
