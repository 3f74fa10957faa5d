"""`yass verify` and `yass selftest`: what they tell, and whether all is well."""

from __future__ import annotations

from pathlib import Path


def run_verify(out: Path) -> tuple[str, bool]:
    """Check the output folder of a sort."""
    from yass_dask.store import Store

    found = Store(out).verify()
    return str(found), found.is_whole
