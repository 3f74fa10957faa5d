"""A function applied to batches, its results in a list."""

import logging
import os

import numpy as np

from yass_dask.compat.batch import BatchProcessor

logging.basicConfig(level=logging.INFO)

path_to_neuropixel_data = os.path.expanduser("~/data/ucl-neuropixel/rawDataSample.bin")


def max_in_channel(batch):
    """Largest value of every channel."""
    return np.max(batch, axis=0)


bp = BatchProcessor(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide", max_memory="10MB")

res = bp.multi_channel_apply(max_in_channel, mode="memory", channels=[0, 1, 2])

# one result a batch
arr = np.stack(res, axis=0)

# largest value of every channel in all of the file
largest = np.max(arr, axis=0)
