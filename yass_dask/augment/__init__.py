"""Training data out of templates and noise."""

from yass_dask.augment.make import load_templates, spikes, training_data, training_data_detect, training_data_triage

__all__ = ["load_templates", "spikes", "training_data", "training_data_detect", "training_data_triage"]
