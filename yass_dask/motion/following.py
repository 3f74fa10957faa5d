"""What the pipeline does about motion: measures it and, where there is some, goes on with traces that stand still."""

from __future__ import annotations

import logging
from collections.abc import Callable

from yass_dask.detect import DetectParams
from yass_dask.motion.displacement import Motion
from yass_dask.motion.estimate import estimate_motion
from yass_dask.motion.params import MotionParams, is_followed
from yass_dask.motion.raster import measure_raster
from yass_dask.motion.traces import hold_still
from yass_dask.noise import Noise
from yass_dask.preprocess import Clean
from yass_dask.recording import Recording

_log = logging.getLogger("yass_dask")


def follow_motion(
    keep: Callable, recording: Recording, clean: Clean, noise: Noise, params: MotionParams,
    detecting: DetectParams, backend: str,
) -> tuple[Clean, Motion | None]:  # fmt: skip
    """Traces as if the tissue had not moved, and the motion; what was given where it is none.

    The motion is None where it was not looked for.

    Parameters
    ----------
    keep : persists a stage, or finds it persisted, and opens it
    recording : the one that is sorted
    """
    if not params.follow:
        return clean, None
    if not is_followed(recording.probe):
        why = "the probe is not one long row of contacts close together"
        _log.info("motion: none is followed: %s", why, extra={"file_only": True})
        return clean, None
    raster = keep("raster", measure_raster(clean, noise, detecting, params, backend))
    motion: Motion = keep("motion", estimate_motion(raster, params, backend))
    _log.info("motion: %s", motion)
    if motion.is_none:
        return clean, motion
    return keep("still", hold_still(clean, noise, motion, recording, params)), motion
