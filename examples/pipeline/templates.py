"""Average the units' waveforms."""

import logging

import numpy as np

import yass_dask.compat as yass
from yass_dask.compat import cluster, detect, preprocess, templates

np.random.seed(0)
logging.basicConfig(level=logging.INFO)

yass.set_config("config_sample.yaml", "templates-example")

standarized_path, standarized_params, whiten_filter = preprocess.run()

(spike_index_clear, spike_index_all) = detect.run(standarized_path, standarized_params, whiten_filter)

spike_train_clear, tmp_loc, vbParam = cluster.run(spike_index_clear)

(templates_, spike_train, groups, idx_good_templates) = templates.run(spike_train_clear, tmp_loc)
