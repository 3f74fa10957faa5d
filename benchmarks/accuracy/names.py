"""What can be asked for: recordings and sorters, by name. Imports nothing, so that reports need nothing installed."""

from __future__ import annotations

SYNTHETIC = ("tetrode", "mea49", "np32", "np128", "mea512", "np384", "collide32", "np64drift")
HYBRIDS = ("hybrid", "hybrid49")
NAMES = (*SYNTHETIC, *HYBRIDS)
"""What `all` means: the table of the benchmark, in its order."""
DRIFTS = ("np64still", "np64ramp", "np64bumps", "np64nonrigid")
"""The units of np64drift at rest, and moved in other ways."""
FADING = ("np32fade",)
"""The units of np32, which grow or shrink threefold."""
OTHER_NAMES = ("hybrid96", "hybrid32", *DRIFTS, *FADING)
"""The two probes of `hybrid` by name, for any seed; drifts beside the table's; units that change."""

OURS = "yass_dask"
ORACLE = "oracle"
"""Our pursuit with the true templates."""
PAPER = "yass_dask:cluster.mask_low=1,cluster.mask_high=3,cluster.valley=1"
"""Our sorter with the paper's masked mixture, whose clusters are not joined again where no valley separates them."""
SHORT = {"paper": PAPER}
PEERS = ("lupin", "spykingcircus2", "tridesclous2", "mountainsort5", "kilosort4")


def is_ours(sorter: str) -> bool:
    """Whether this repository's code sorts; `yass_dask:STAGE.KEY=VALUE,...` is the sorter with other parameters."""
    return sorter.partition(":")[0] in (OURS, ORACLE)


def check_sorter(sorter: str) -> str:
    """The name itself, or the one that a short name stands for, if there is such a sorter.

    Raises
    ------
    ValueError
        There is none.
    """
    sorter = SHORT.get(sorter, sorter)
    if not is_ours(sorter) and sorter not in PEERS:
        raise ValueError(f"no sorter {sorter}: choose of {', '.join((OURS, ORACLE, *SHORT, *PEERS))}")
    return sorter
