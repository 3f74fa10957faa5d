"""A pipeline of one's own: another implementation of a step by its function."""

import logging

import numpy as np

import yass_dask.compat as yass
from yass_dask.compat import cluster, deconvolute, detect, preprocess, templates
from yass_dask.compat.detect import nnet, nnet_experimental, threshold
from yass_dask.compat.preprocess.experimental import run as experimental_run

np.random.seed(0)
logging.basicConfig(level=logging.INFO)

yass.set_config("config.yaml", "custom-example")

# the stable preprocessing ...
(standarized_path, standarized_params, whiten_filter) = preprocess.run()

# ... or the experimental one
(standarized_path, standarized_params, whiten_filter) = preprocess.run(function=experimental_run)

# the threshold detector ...
(spike_index_clear, spike_index_all) = detect.run(
    standarized_path, standarized_params, whiten_filter, function=threshold.run
)

# ... or the neural network ...
(spike_index_clear, spike_index_all) = detect.run(
    standarized_path, standarized_params, whiten_filter, function=nnet.run
)

# ... or the experimental neural network
(spike_index_clear, spike_index_all) = detect.run(
    standarized_path, standarized_params, whiten_filter, function=nnet_experimental.run
)

spike_train_clear, tmp_loc, vbParam = cluster.run(spike_index_clear)

(templates_, spike_train, groups, idx_good_templates) = templates.run(spike_train_clear, tmp_loc)

spike_train = deconvolute.run(spike_index_all, templates_)
