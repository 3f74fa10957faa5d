"""A large file in batches of some observations of all or several channels."""

import os

from yass_dask.compat.batch import BatchProcessor

path_to_neuropixel_data = os.path.expanduser("~/data/ucl-neuropixel/rawDataSample.bin")

bp = BatchProcessor(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide", max_memory="300MB")

# all of it: max_memory says how many observations a batch has
data = bp.multi_channel()

for d, _, idx in data:
    print(f"Shape: {d.shape}. Index: {idx}")

# some of it
data = bp.multi_channel(from_time=100000, to_time=200000, channels=[0, 1, 2])

for d, _, idx in data:
    print(f"Shape: {d.shape}. Index: {idx}")

# with a buffer: d[idx_local] is the batch without it, idx where it lies in the file
bp2 = BatchProcessor(
    path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide", max_memory="100KB", buffer_size=10
)

data = bp2.multi_channel(from_time=0, to_time=100000, channels=[0, 1, 2])

for d, idx_local, idx in data:
    print(f"Shape: {d.shape}. Local: {idx_local}. Absolute: {idx}\n")
