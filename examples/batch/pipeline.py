"""Two transformations one after the other, the results of both in files."""

import logging
import os

import matplotlib.pyplot as plt

from yass_dask.compat.batch import RecordingsReader
from yass_dask.compat.batch.pipeline import BatchPipeline, PipedTransformation
from yass_dask.compat.preprocess.filter import butterworth, standarize

logging.basicConfig(level=logging.DEBUG)

path_to_neuropixel_data = os.path.expanduser("~/data/ucl-neuropixel/rawDataSample.bin")
path_output = os.path.expanduser("~/data/ucl-neuropixel/tmp")

pipeline = BatchPipeline(
    path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide", max_memory="500MB",
    from_time=None, to_time=None, channels="all", output_path=path_output,
)  # fmt: skip

butterworth_op = PipedTransformation(
    butterworth, "filtered.bin", mode="single_channel_one_batch", keep=True,
    low_freq=300, high_factor=0.1, order=3, sampling_freq=30000,
)  # fmt: skip

standarize_op = PipedTransformation(
    standarize, "standarized.bin", mode="single_channel_one_batch", keep=True, sampling_freq=30000
)

pipeline.add([butterworth_op, standarize_op])
pipeline.run()

raw = RecordingsReader(path_to_neuropixel_data, dtype="int16", n_channels=385, data_format="wide")
filtered = RecordingsReader(os.path.join(path_output, "filtered.bin"))
standarized = RecordingsReader(os.path.join(path_output, "standarized.bin"))

fig, (ax1, ax2, ax3) = plt.subplots(3, 1)
for axis, data, title in ((ax1, raw, "Raw"), (ax2, filtered, "Filtered"), (ax3, standarized, "Standarized")):
    axis.plot(data[:2000, 0])
    axis.set_title(f"{title} data")
plt.tight_layout()
plt.show()
