"""YASS's networks under their names."""

from yass_dask.neuralnetwork import NeuralNetDenoiser as AutoEncoder
from yass_dask.neuralnetwork import NeuralNetDetector, NeuralNetTriage

__all__ = ["AutoEncoder", "NeuralNetDetector", "NeuralNetTriage"]
