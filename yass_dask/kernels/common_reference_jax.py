"""Common median reference of a block on a GPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def common_reference(traces: np.ndarray, *, groups: np.ndarray) -> np.ndarray:
    """See `common_reference_numpy`; the result stays on the device."""
    result: Any = jnp.asarray(traces)
    for group in np.unique(groups[groups >= 0]):
        result = _subtract_median(result, np.flatnonzero(groups == group))
    return result


@jax.jit
def _subtract_median(traces: Any, members: Any) -> Any:
    mine = traces[:, members]
    in_order = jnp.sort(mine, axis=1)
    middle, n = len(members) // 2, len(members)
    median = in_order[:, middle] if n % 2 else 0.5 * (in_order[:, middle - 1] + in_order[:, middle])
    return traces.at[:, members].add(-median[:, None])
