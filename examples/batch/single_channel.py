"""A large file in batches of one channel each."""

import os

from yass_dask.compat.batch import BatchProcessor

path_to_neuropixel_data = os.path.expanduser("~/data/ucl-neuropixel/rawDataSample.bin")

bp = BatchProcessor(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide", max_memory="1MB")

# a channel at a time; going through it is an error where a channel takes more than max_memory
data = bp.single_channel()

# channels in pieces
data = bp.single_channel(force_complete_channel_batch=False, channels=[0, 1, 2])

for d, ch in data:
    print(d.shape, f"Data from channel {ch}")

# some of each channel
data = bp.single_channel(from_time=100000, to_time=200000, channels=[0, 1, 2])

for d in data:
    print(d.shape)
