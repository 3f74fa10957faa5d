"""Files in both orders, read alike."""

import os

import numpy as np

from yass_dask.compat.batch import RecordingsReader

output_folder = os.path.join(os.path.expanduser("~"), "data/yass")
os.makedirs(output_folder, exist_ok=True)

wide_data = np.random.rand(50, 100000)
long_data = wide_data.T

path_to_wide = os.path.join(output_folder, "wide.bin")
path_to_long = os.path.join(output_folder, "long.bin")

wide_data.tofile(path_to_wide)
long_data.tofile(path_to_long)

reader_wide = RecordingsReader(path_to_wide, dtype="float64", n_channels=50, data_order="channels")
reader_long = RecordingsReader(path_to_long, dtype="float64", n_channels=50, data_order="samples")

# first observations, then channels, whatever the order of the file
obs_wide = reader_wide[10000:20000, 20:30]
obs_long = reader_long[10000:20000, 20:30]
