"""Small recordings with true spikes, for tests, the demo and the notebooks."""

from yass_dask.simulate.render import Simulation, render, simulate, write
from yass_dask.simulate.scene import Scene, plan
from yass_dask.simulate.stream import SimulatedSource, stream

__all__ = ["Scene", "SimulatedSource", "Simulation", "plan", "render", "simulate", "stream", "write"]
