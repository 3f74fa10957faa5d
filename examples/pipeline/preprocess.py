"""Filter, standardize, and measure the whitening matrix."""

import logging

import yass_dask.compat as yass
from yass_dask.compat import preprocess

logging.basicConfig(level=logging.INFO)

yass.set_config("config.yaml", "example-preprocess")

(standarized_path, standarized_params, whiten_filter) = preprocess.run()
