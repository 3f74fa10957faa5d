"""Operations on an array of templates: choose, crop, align."""

from __future__ import annotations

import numpy as np

from yass_dask.errors import InputError


class TemplatesProcessor:
    """Templates (n_templates, n_samples, n_channels) and what is often done to them.

    Each operation gives a new processor, or with `inplace=True` changes this one and returns it.

    Parameters
    ----------
    templates : (n_templates, n_samples, n_channels) array

    Raises
    ------
    InputError
        Where `templates` has another number of dimensions.
    """

    def __init__(self, templates: np.ndarray) -> None:
        values = np.asarray(templates)
        if values.ndim != 3:
            raise InputError(f"templates have shape {values.shape}; give an array (n_templates, n_samples, n_channels)")
        self.values = values

    @property
    def amplitudes(self) -> np.ndarray:
        """(n_templates,) largest absolute value."""
        return np.abs(self.values).max(axis=(1, 2), initial=0)

    @property
    def main_channels(self) -> np.ndarray:
        """(n_templates,) channel of the largest absolute value; the lower channel on a tie."""
        return np.abs(self.values).max(axis=1, initial=0).argmax(axis=1)

    def choose_with_indexes(self, indexes: object, inplace: bool = False) -> TemplatesProcessor:
        """Keep some templates, in the order given.

        Raises
        ------
        IndexError
            An index is out of range.
        """
        return self._with(self.values[np.asarray(indexes, dtype=np.int64)], inplace)

    def choose_with_minimum_amplitude(self, threshold: float, inplace: bool = False) -> TemplatesProcessor:
        """Keep templates whose largest absolute value is at least `threshold`."""
        return self._with(self.values[self.amplitudes >= threshold], inplace)

    def crop_temporally(self, before: int, after: int, inplace: bool = False) -> TemplatesProcessor:
        """Cut `before` and `after` samples around each template's peak; zeros beyond the ends."""
        return self._with(self._windows(self._peaks(), before, after), inplace)

    def crop_spatially(self, neighbors: np.ndarray, geometry: np.ndarray, inplace: bool = False) -> TemplatesProcessor:
        """Keep each template's main channel and that channel's neighbours, nearest first, padded with zeros.

        Parameters
        ----------
        neighbors : (n_channels, n_channels) bool, see `geometry.find_channel_neighbors`
        geometry : (n_channels, 2) positions
        """
        from yass_dask.geometry import make_channel_index

        index = make_channel_index(np.asarray(neighbors, bool), np.asarray(geometry))
        padded = np.pad(self.values, ((0, 0), (0, 0), (0, 1)))
        return self._with(np.take_along_axis(padded, index[self.main_channels][:, None, :], axis=2), inplace)

    def align(self, inplace: bool = False) -> TemplatesProcessor:
        """Move each template so that its peak lies where the largest template has its own; zeros move in."""
        peaks = self._peaks()
        if not len(peaks):
            return self._with(self.values, inplace)
        target = int(peaks[self.amplitudes.argmax()])
        return self._with(self._windows(peaks, target, self.values.shape[1] - 1 - target), inplace)

    def _peaks(self) -> np.ndarray:
        """(n_templates,) sample of the largest absolute value on the main channel."""
        main = np.take_along_axis(self.values, self.main_channels[:, None, None], axis=2)[:, :, 0]
        return np.abs(main).argmax(axis=1)

    def _windows(self, centres: np.ndarray, before: int, after: int) -> np.ndarray:
        padded = np.pad(self.values, ((0, 0), (before, after), (0, 0)))
        rows = centres[:, None] + np.arange(before + after + 1)
        return np.take_along_axis(padded, rows[:, :, None], axis=1)

    def _with(self, values: np.ndarray, inplace: bool) -> TemplatesProcessor:
        if not inplace:
            return TemplatesProcessor(values)
        self.values = values
        return self
