"""The two clustering methods of YASS 0.10, as parameters of the one there is here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from yass_dask.cluster import ClusterParams, cluster
from yass_dask.compat.scores import features_of, given_scores
from yass_dask.compat.settings import read_config
from yass_dask.compat.traces import RECORDINGS, Standardized
from yass_dask.compat.work import whitened

Clustered = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]

MASK_LOW, MASK_HIGH = 1.0, 3.0
"""Masking as in the paper (Lee et al. 2017): a channel with no more energy than noise is closed."""


def location(
    spike_index: np.ndarray, scores: np.ndarray | None = None, recordings_filename: str = RECORDINGS
) -> Clustered:
    """Cluster spikes channel by channel, on all channels nearby, none of them masked.

    Parameters
    ----------
    spike_index : (n, 2) sample and main channel
    scores : (n, n_features, n_channels) features of these spikes, or None: made of the standardized recording
    recordings_filename : that recording, in the output folder or in its folder preprocess

    Returns
    -------
    spike_train : (n_kept, 3) float64: sample, unit, weight (1 in the unit's middle, less outside), in order of time
    tmp_loc : (n_units,) channel that each unit was found on
    vbParam : `counts` (n_units,), `means` (n_units, n_features) and `covariances` of each unit's features, main
        channel first; the mixture's posterior in the paper's words
    """
    return _cluster(spike_index, scores, recordings_filename, read_config().params.cluster)


def neigh_channels(
    spike_index: np.ndarray, scores: np.ndarray | None = None, recordings_filename: str = RECORDINGS
) -> Clustered:
    """The same as `location` with the paper's masking; parameters and results are its."""
    masked = {"mask_low": MASK_LOW, "mask_high": MASK_HIGH}
    params = read_config().params.cluster.model_copy(update=masked)
    return _cluster(spike_index, scores, recordings_filename, params)


def _cluster(
    spike_index: np.ndarray, scores: np.ndarray | None, recordings_filename: str, params: ClusterParams
) -> Clustered:
    settings = read_config()
    file = Standardized.named(recordings_filename, settings)
    with whitened(settings, file, file.whitening()) as at:
        features = features_of(at, spike_index)[1] if scores is None else given_scores(at, spike_index, scores)
        found = at.work.keep("cluster", cluster(features, params, at.work.backend))
        return as_train(found, features.table)


def as_train(clusters: Mapping[str, Any], features: Mapping[str, Any]) -> Clustered:
    """Pairs of channel and cluster as units, in this order.

    Parameters
    ----------
    clusters, features : tables of the stages of these names
    """
    fields = {name: np.asarray(clusters[name][:]) for name in clusters}
    pairs = np.stack([fields["channel_index"], fields["cluster_index"]], axis=1).astype(np.int64)
    kinds, unit = np.unique(pairs, axis=0, return_inverse=True)
    unit = unit.reshape(-1)
    train = np.stack([fields["sample_index"], unit, fields["weight"]], axis=1).astype(np.float64)
    order = np.lexsort((unit, fields["sample_index"]))
    return train[order], kinds[:, 0], _posterior(fields, unit, len(kinds), features)


def _posterior(
    fields: Mapping[str, Any], unit: np.ndarray, n_units: int, features: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Number, mean and covariance of each unit's features."""
    table = {name: np.asarray(features[name][:]) for name in ("sample_index", "channel_index", "features")}
    n, n_local, n_components = table["features"].shape
    flat = table["features"].reshape(n, n_local * n_components).astype(np.float64)
    rows = np.searchsorted(_keys(table), _keys(fields))
    means = np.zeros((n_units, flat.shape[1]))
    covariances = np.zeros((n_units, flat.shape[1], flat.shape[1]))
    for u in range(n_units):
        mine = flat[rows[unit == u]]
        means[u], covariances[u] = mine.mean(axis=0), np.cov(mine, rowvar=False).reshape(covariances.shape[1:])
    return {"counts": np.bincount(unit, minlength=n_units), "means": means, "covariances": covariances}


def _keys(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n,) int64 that order spikes by sample, then channel."""
    return fields["sample_index"].astype(np.int64) << 20 | fields["channel_index"]
