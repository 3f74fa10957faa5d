"""Find spikes."""

import logging

import yass_dask.compat as yass
from yass_dask.compat import detect, preprocess

logging.basicConfig(level=logging.INFO)

yass.set_config("config.yaml", "example-detect")

standarized_path, standarized_params, whiten_filter = preprocess.run()

clear, collision = detect.run(standarized_path, standarized_params, whiten_filter, if_file_exists="overwrite")
