"""Memory sizes as people write them."""

from __future__ import annotations

import re
from fractions import Fraction

_SIZE = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<prefix>[KMGT]?)I?B\s*", re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
ALLOWED = "a whole number of bytes, or a size such as 200MB, 1.5GB or 512KiB (1 KB = 1 KiB = 1024 bytes)"


def parse_size(value: int | str) -> int:
    """Number of bytes in a size such as `200MB`, `1.5GB`, `512KiB` or `1048576`.

    Units are powers of 1024, as in YASS, with and without the `i`. A text without a unit is refused: `"200"`
    is more often a forgotten `MB` than 200 bytes. Fractions of a byte are cut off.

    Raises
    ------
    ValueError
        The size is not of that form, or is less than one byte.
    """
    n_bytes = _parse_text(value) if isinstance(value, str) else value
    if isinstance(n_bytes, bool) or not isinstance(n_bytes, int) or n_bytes < 1:
        raise ValueError(f"must be {ALLOWED}")
    return n_bytes


def format_size(n_bytes: int) -> str:
    """A size in the units of `parse_size`, four digits: `1.5 GB`."""
    power = next(power for power in (4, 3, 2, 1, 0) if n_bytes >= 1024**power or power == 0)
    return f"{n_bytes / 1024**power:.4g} {' KMGT'[power]}B".replace("  ", " ")


def _parse_text(text: str) -> int:
    match = _SIZE.fullmatch(text.upper())
    if match is None:
        raise ValueError(f"must be {ALLOWED}")
    return int(Fraction(match["number"]) * 1024 ** _POWERS[match["prefix"]])
