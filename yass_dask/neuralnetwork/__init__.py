"""Networks: a detector, a triage, a denoiser; NumPy and Numba run them, JAX trains them."""

from yass_dask.neuralnetwork.denoiser import NeuralNetDenoiser
from yass_dask.neuralnetwork.detector import NeuralNetDetector
from yass_dask.neuralnetwork.settings import Settings
from yass_dask.neuralnetwork.triage import NeuralNetTriage

__all__ = ["NeuralNetDenoiser", "NeuralNetDetector", "NeuralNetTriage", "Settings"]
