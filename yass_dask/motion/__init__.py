"""Stages: how the tissue moves along the probe, from the depths of peaks; and traces as if it had not."""

from yass_dask.motion.displacement import Motion
from yass_dask.motion.estimate import estimate_motion
from yass_dask.motion.params import MotionParams, is_followed
from yass_dask.motion.raster import Raster, measure_raster
from yass_dask.motion.traces import hold_still

__all__ = ["Motion", "MotionParams", "Raster", "estimate_motion", "hold_still", "is_followed", "measure_raster"]
