"""Stages: how the tissue moves along the probe, from the depths of peaks; and traces as if it had not."""

from yass_dask.motion.displacement import Motion
from yass_dask.motion.following import follow_motion
from yass_dask.motion.joining import join_divided
from yass_dask.motion.params import MotionParams

__all__ = ["Motion", "MotionParams", "follow_motion", "join_divided"]
