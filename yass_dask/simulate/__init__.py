"""Small recordings with true spikes, for tests, the demo and the notebooks."""

from yass_dask.simulate.render import Simulation, render, simulate, write
from yass_dask.simulate.scene import Scene, plan

__all__ = ["Scene", "Simulation", "plan", "render", "simulate", "write"]
