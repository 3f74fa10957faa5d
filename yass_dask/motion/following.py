"""What the pipeline does about motion: measures it and, where there is some, goes on with traces that stand still."""

from __future__ import annotations

import logging
from collections.abc import Callable

from yass_dask.conditioning import PreprocessParams
from yass_dask.detect import DetectParams
from yass_dask.motion.displacement import Motion
from yass_dask.motion.estimate import estimate_motion
from yass_dask.motion.params import MotionParams, is_followed
from yass_dask.motion.raster import measure_raster
from yass_dask.motion.traces import hold_still
from yass_dask.noise import Noise, measure_noise
from yass_dask.preprocess import Clean
from yass_dask.recording import Recording

_log = logging.getLogger("yass_dask")


def follow_motion(
    keep: Callable, recording: Recording, clean: Clean, noise: Noise, params: MotionParams,
    detecting: DetectParams, conditioning: PreprocessParams, backend: str,
) -> tuple[Clean, Noise, Motion | None]:  # fmt: skip
    """Traces as if the tissue had not moved, their noise, and the motion; what was given where it is none.

    The motion is None where it was not looked for.

    Parameters
    ----------
    keep : persists a stage, or finds it persisted, and opens it
    recording : the one that is sorted
    """
    if not params.follow:
        return clean, noise, None
    if not is_followed(recording.probe):
        why = "the probe is not one long row of contacts close together"
        _log.info("motion: none is followed: %s", why, extra={"file_only": True})
        return clean, noise, None
    raster = keep("raster", measure_raster(clean, noise, detecting, params, backend))
    motion: Motion = keep("motion", estimate_motion(raster, params, backend))
    _log.info("motion: %s", motion)
    if motion.is_none:
        return clean, noise, motion
    still = keep("still", hold_still(clean, noise, motion, recording, params))
    return still, keep("still_noise", measure_noise(still, conditioning, backend)), motion
