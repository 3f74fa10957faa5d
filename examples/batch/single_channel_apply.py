"""A filter applied channel by channel, its results in a file."""

import logging
import os

import matplotlib.pyplot as plt

from yass_dask.compat.batch import BatchProcessor, RecordingsReader
from yass_dask.compat.preprocess.filter import butterworth

logging.basicConfig(level=logging.INFO)

path_to_neuropixel_data = os.path.expanduser("~/data/ucl-neuropixel/rawDataSample.bin")
path_to_filtered_data = os.path.expanduser("~/data/ucl-neuropixel/tmp/filtered.bin")

bp = BatchProcessor(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide", max_memory="500MB")

bp.single_channel_apply(
    butterworth, mode="disk", output_path=path_to_filtered_data,
    low_freq=300, high_factor=0.1, order=3, sampling_freq=30000, channels=[0, 1, 2],
)  # fmt: skip

raw = RecordingsReader(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide")
filtered = RecordingsReader(path_to_filtered_data)

fig, (ax1, ax2) = plt.subplots(2, 1)
ax1.plot(raw[:2000, 0])
ax2.plot(filtered[:2000, 0])
plt.show()
