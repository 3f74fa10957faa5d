"""Sort clear spikes into units."""

import logging

import numpy as np

import yass_dask.compat as yass
from yass_dask.compat import cluster, detect, preprocess

np.random.seed(0)
logging.basicConfig(level=logging.INFO)

yass.set_config("config_sample.yaml", "preprocess-example/")

standarized_path, standarized_params, whiten_filter = preprocess.run()

(spike_index_clear, spike_index_all) = detect.run(standarized_path, standarized_params, whiten_filter)

spike_train_clear, tmp_loc, vbParam = cluster.run(spike_index_clear)
