"""A function applied to batches, its results in a file."""

import logging
import os

import matplotlib.pyplot as plt

from yass_dask.compat.batch import BatchProcessor, RecordingsReader

logging.basicConfig(level=logging.INFO)

path_to_neuropixel_data = os.path.expanduser("~/data/ucl-neuropixel/rawDataSample.bin")
path_to_modified_data = os.path.expanduser("~/data/ucl-neuropixel/tmp/modified.bin")


def sum_one(batch):
    """Add one to every element."""
    return batch + 1


bp = BatchProcessor(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide", max_memory="500MB")

bp.multi_channel_apply(sum_one, mode="disk", output_path=path_to_modified_data, channels=[0, 1, 2])

raw = RecordingsReader(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide")

# a yaml file beside it tells what it holds
filtered = RecordingsReader(path_to_modified_data)

fig, (ax1, ax2) = plt.subplots(2, 1)
ax1.plot(raw[:2000, 0])
ax2.plot(filtered[:2000, 0])
plt.show()
