"""Stage: features of clear peaks -> clusters, channel by channel.

Each channel is one small independent task: a coreset of its peaks, a nonparametric mixture (with masks, if wanted), and
a last look whether a valley separates what the mixture split. What belongs together across channels is joined later, by
template and by spikes, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_matrix
from scipy.special import chdtri

from yass_dask.backends import kernel
from yass_dask.chunked import LazyParts, lazy_call
from yass_dask.events import Events, evenly
from yass_dask.features import Features

MAX_TASKS = 16
"""Each reads all features for those of its channels."""


class ClusterParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    n_cells: int = Field(800, ge=50)
    """Cells of the coreset that stands for a channel's peaks."""
    max_dims: int = Field(8, ge=1, le=20)
    """Dimensions of the mixture, chosen among the components that rise above the noise."""
    max_clusters: int = Field(24, ge=1)
    """Clusters per channel, at most."""
    min_spikes: int = Field(12, ge=2)
    """Clusters of fewer peaks are no units."""
    valley: float = Field(0.75, gt=0, le=1)
    """Two clusters are one if the density between them stays above this share of the lower peak."""
    mask_low: float = Field(0.0, ge=0)
    """A channel whose features have less energy than this many times the noise's is masked; fully open ..."""
    mask_high: float = Field(0.0, ge=0)
    """... from this many times on; in between it is partly open. The paper's masking is 1 and 3. By default there is
    none: what tells two small neurons apart is often on the channels where both are weak."""
    outlier: float = Field(1e-4, gt=0, lt=1)
    """Peaks farther from their cluster than all but this share of a Gaussian's points belong to no unit."""


def cluster(features: Features, params: ClusterParams, backend: str) -> LazyParts:
    """Clusters of each channel's peaks: small independent tasks, a few channels each.

    Opens as a mapping of fields sample_index, shift, channel_index, cluster_index (within the channel), weight.
    """
    n_channels = len(features.channels)
    groups = np.array_split(np.arange(n_channels), min(n_channels, MAX_TASKS))
    parts = {
        f"channels-{group[0]:05d}-{group[-1]:05d}": lazy_call(
            "cluster", cluster_channels, features, group, params, backend
        )
        for group in groups
    }
    return LazyParts(parts, params, 1, dict)


def cluster_channels(
    features: Features, channels: np.ndarray, params: ClusterParams, backend: str
) -> dict[str, np.ndarray]:
    """Clusters of the peaks whose main channel is among `channels`; outliers and small clusters are left out."""
    columns = features.of_channels(channels)
    labels = np.full(len(columns["sample_index"]), -1)
    weights = np.zeros(len(labels))
    for channel in channels:
        mine = columns["channel_index"] == channel
        labels[mine], weights[mine] = assign(columns["features"][mine], params, backend)
    kept = labels >= 0
    return {
        "sample_index": columns["sample_index"][kept],
        "shift": columns["shift"][kept],
        "channel_index": columns["channel_index"][kept],
        "cluster_index": labels[kept].astype(np.int32),
        "weight": weights[kept].astype(np.float32),
    }


def gather_units(clusters: Mapping[str, Any], max_spikes: int) -> LazyParts:
    """Members of the (channel, cluster) pairs as one table in time order, at most `max_spikes` of each.

    Opens as Events with fields sample_index, unit_index, shift, amplitude (1), main_channel.
    """
    return LazyParts.one(
        "units",
        _gather_units,
        clusters,
        max_spikes,
        params={"max_spikes": max_spikes},
        version=1,
        open=Events,
    )


MEMBER_FIELDS = ("sample_index", "channel_index", "cluster_index", "shift")


def members_of(clusters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """All members of the (channel, cluster) pairs in time order: sample_index, unit_index, shift, channel_index."""
    fields = {name: np.asarray(clusters[name][:]) for name in MEMBER_FIELDS}
    pairs = np.stack([fields["channel_index"], fields["cluster_index"]], axis=1).astype(np.int64)
    _, unit = np.unique(pairs, axis=0, return_inverse=True)
    unit = unit.reshape(-1)
    order = np.lexsort((unit, fields["sample_index"]))
    return {"unit_index": unit[order]} | {name: values[order] for name, values in fields.items()}


def _gather_units(clusters: Mapping[str, Any], max_spikes: int) -> dict[str, np.ndarray]:
    fields = members_of(clusters)
    kept = evenly(fields["unit_index"], max_spikes)
    return {
        "sample_index": fields["sample_index"][kept],
        "unit_index": fields["unit_index"][kept].astype(np.int32),
        "shift": fields["shift"][kept],
        "amplitude": np.ones(np.count_nonzero(kept), np.float32),
        "main_channel": fields["channel_index"][kept],
    }


def assign(features: np.ndarray, params: ClusterParams, backend: str) -> tuple[np.ndarray, np.ndarray]:
    """Cluster of each point (-1: none) and its weight.

    Parameters
    ----------
    features : (n, n_local, n_components) noise-whitened features
    """
    n = len(features)
    if n < params.min_spikes:
        return np.full(n, -1), np.zeros(n)
    cells = kernel("coreset", backend)(features.reshape(n, -1), n_cells=params.n_cells)
    reduced, means, weights, scatter = _masked_cells(features, cells, params)
    resp = kernel("mixture", backend)(
        means,
        weights=weights,
        scatter=scatter,
        max_clusters=params.max_clusters,
        min_weight=params.min_spikes,
    )
    labels = join_unseparated(reduced, resp.argmax(axis=1)[cells], params.valley, backend)
    return _triage(reduced, labels, params)


def _masked_cells(features: np.ndarray, cells: np.ndarray, params: ClusterParams) -> tuple[np.ndarray, ...]:
    """Points and cells in the few dimensions that rise above the noise.

    Masked virtual data (Kadir, Goodman and Harris 2014): on a channel with mask m a cell's expected mean is m times
    what was measured, and its expected covariance gains (1 - m) times the noise's, which here is the identity.
    """
    n, n_local, n_components = features.shape
    weights = np.bincount(cells).astype(np.float64)
    belongs = csr_matrix((np.ones(n), cells, np.arange(n + 1))).T
    centres = (belongs @ features.reshape(n, -1)).reshape(-1, n_local, n_components) / weights[:, None, None]
    energy = (centres**2).sum(axis=2) / n_components
    low, high = params.mask_low, params.mask_high
    mask = np.clip((energy - low) / max(high - low, 1e-9), 0, 1)[:, :, None]
    virtual = (mask * centres).reshape(len(weights), -1)
    axes, origin = _axes(virtual, weights, params.max_dims)
    opened = mask[cells] * features
    reduced = (opened.reshape(n, -1) - origin) @ axes
    means = (virtual - origin) @ axes
    within = reduced - means[cells]
    products = (within[:, :, None] * within[:, None, :]).reshape(n, -1)
    scatter = (belongs @ products).reshape(-1, axes.shape[1], axes.shape[1]) / weights[:, None, None]
    closed = np.repeat(1 - mask[:, :, 0], n_components, axis=1)
    return reduced, means, weights, scatter + np.einsum("id,ni,ie->nde", axes, closed, axes, optimize=True)


def _axes(points: np.ndarray, weights: np.ndarray, max_dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes whose variance rises above that of pure noise (the Marchenko-Pastur edge), at least one."""
    origin = np.average(points, axis=0, weights=weights)
    centred = (points - origin) * np.sqrt(weights / weights.sum())[:, None]
    values, vectors = np.linalg.eigh(centred.T @ centred)
    edge = (1 + np.sqrt(points.shape[1] / weights.sum())) ** 2
    rising = max(1, min(max_dims, int((values > edge).sum())))
    return vectors[:, ::-1][:, :rising], origin


def join_unseparated(points: np.ndarray, labels: np.ndarray, least: float, backend: str) -> np.ndarray:
    """Join clusters, the nearest first, that no valley separates along the axis that tells them apart best."""
    labels = labels.copy()
    separate: set[tuple[int, int]] = set()
    while True:
        pair = _nearest_untested(points, labels, separate)
        if pair is None:
            break
        a, b = (points[labels == k] for k in pair)
        axis = discriminant(a, b)
        if kernel("valley", backend)(a @ axis, b @ axis) >= least:
            labels[labels == pair[1]] = pair[0]
            separate = {p for p in separate if pair[0] not in p and pair[1] not in p}
        else:
            separate.add(pair)
    return np.unique(labels, return_inverse=True)[1]


def _nearest_untested(points: np.ndarray, labels: np.ndarray, separate: set) -> tuple[int, int] | None:
    kinds = np.unique(labels)
    centres = np.array([np.median(points[labels == k], axis=0) for k in kinds])
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    i, j = np.triu_indices(len(kinds), 1)
    for p in np.argsort(distance[i, j], kind="stable"):
        pair = (int(kinds[i[p]]), int(kinds[j[p]]))
        if pair not in separate:
            return pair
    return None


def discriminant(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Fisher's axis from a to b, each group's covariance weighing the same, shrunk towards the noise's."""
    d = a.shape[1]
    pooled = np.eye(d)
    for group in (a, b):
        centred = group - group.mean(axis=0)
        pooled += (centred.T @ centred + 5 * np.eye(d)) / (len(group) + 5) / 2
    axis = np.linalg.solve(pooled, np.median(b, axis=0) - np.median(a, axis=0))
    return axis / max(np.linalg.norm(axis), 1e-12)


def _triage(points: np.ndarray, labels: np.ndarray, params: ClusterParams) -> tuple[np.ndarray, np.ndarray]:
    """Leave out outliers and small clusters; the weight falls with the distance from the cluster's centre."""
    result, weights = np.full(len(labels), -1), np.zeros(len(labels))
    d, count = points.shape[1], 0
    limit = chdtri(d, params.outlier)  # exceeded by that share
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        if len(members) < params.min_spikes:
            continue
        centred = points[members] - np.median(points[members], axis=0)
        covariance = (centred.T @ centred + 10 * np.eye(d)) / (len(members) + 10)
        distance = np.einsum("nd,de,ne->n", centred, np.linalg.inv(covariance), centred)
        inside = members[distance <= limit]
        if len(inside) < params.min_spikes:
            continue
        result[inside] = count
        weights[inside] = np.exp(-0.5 * distance[distance <= limit] / d)
        count += 1
    return result, weights
