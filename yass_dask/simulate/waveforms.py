"""Extracellular waveforms of simulated units: a time course per channel, spread over the contacts.

The trough (sodium current), the repolarisation after it and, in some units, a small peak before it are lobes
of unequal flanks. Away from the soma the amplitude decays, the lobes arrive later and get wider.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PEAK_MS, AFTER_MS = 1.5, 3.0
JITTERS = 5
"""Spikes lie on a grid of a fifth of a sample."""


@dataclass(frozen=True)
class Neuron:
    """What shapes the waveform of one unit; times in ms, lengths in um."""

    position: np.ndarray
    """(x, y, z): z is the distance from the plane of the contacts."""
    trough_width: float
    trough_skew: float
    repolarisation_delay: float
    repolarisation_width: float
    repolarisation: float
    first_peak: float
    decay: float
    elongation: float
    velocity: float
    """um per ms along the probe; its sign is the direction."""
    sign: float
    gains: np.ndarray
    """(n_channels,): small differences between contacts."""


def draw_neuron(position: np.ndarray, n_channels: int, rng: np.random.Generator) -> Neuron:
    """Draw one unit: half narrow-spiking to half broad-spiking time courses, one in seven positive-going."""
    positive = rng.random() < 1 / 7
    width = rng.uniform(0.15, 0.25) if positive else np.exp(rng.uniform(np.log(0.15), np.log(0.40)))
    return Neuron(
        position=position,
        trough_width=width,
        trough_skew=rng.uniform(1.0, 1.4),
        repolarisation_delay=width + rng.uniform(0.05, 0.40),
        repolarisation_width=rng.uniform(0.25, 0.70),
        repolarisation=rng.uniform(0.10, 0.50),
        first_peak=rng.uniform(0.05, 0.25) if rng.random() < 1 / 3 else 0.0,
        decay=rng.uniform(15.0, 60.0),
        elongation=rng.uniform(1.0, 1.8),
        velocity=rng.choice([-1.0, 1.0]) * rng.uniform(300.0, 1500.0),
        sign=1.0 if positive else -1.0,
        gains=np.exp(0.08 * rng.standard_normal(n_channels)),
    )


def _lobe(time: np.ndarray, width: np.ndarray | float, skew: float) -> np.ndarray:
    """Bump of height 1 at time 0; `width` at half height, falling `skew` times slower than it rises."""
    rise = width / 2.355 * 2 / (1 + skew)
    return np.exp(-0.5 * (time / np.where(time < 0, rise, rise * skew)) ** 2)


def _time_course(neuron: Neuron, time: np.ndarray, widening: np.ndarray | float) -> np.ndarray:
    """Waveform of height about 1 at `time` (ms); `widening` stretches it, far from the soma."""
    width = neuron.trough_width * widening
    trough = _lobe(time, width, neuron.trough_skew)
    late = _lobe(time - neuron.repolarisation_delay * widening, neuron.repolarisation_width * widening, 1.6)
    early = _lobe(time + 1.1 * width, 0.9 * width, 1.0)
    return trough - neuron.repolarisation * late - neuron.first_peak * early


def _spread(neuron: Neuron, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Amplitude, delay (ms) and widening on every contact."""
    dx, dy = (positions - neuron.position[:2]).T
    z = neuron.position[2]
    distance = np.sqrt(dx**2 + (dy / neuron.elongation) ** 2 + z**2) - z
    amplitude = np.exp(-distance / neuron.decay) * neuron.gains
    delay = 0.4 * np.tanh(dy / neuron.velocity / 0.4) + 0.02 * distance / neuron.decay
    return amplitude, delay, 1 + np.minimum(distance, 200.0) / 250.0


def contact_amplitudes(neuron: Neuron, positions: np.ndarray) -> np.ndarray:
    """(n_channels,) amplitude on every contact, as a share of that at the soma."""
    return _spread(neuron, positions)[0]


def unit_waveform(neuron: Neuron, positions: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Waveform at every sub-sample shift, (JITTERS, n_samples, n_channels), of size 1 on the main channel.

    Shift j moves the spike later by (j - JITTERS // 2) / JITTERS of a sample; at the middle shift, the
    extremum of the main channel lies exactly on sample `template_peak(sampling_rate)`.
    """
    amplitude, delay, widening = _spread(neuron, positions)
    main = int(np.argmax(amplitude))
    fine = np.arange(-0.5, 0.5, 1e-3)
    extremum = fine[np.argmax(_time_course(neuron, fine, widening[main]))] + delay[main]
    peak, n_samples = template_peak(sampling_rate), template_samples(sampling_rate)
    shifts = (np.arange(JITTERS) - JITTERS // 2) / JITTERS
    samples = np.arange(n_samples)[None, :] - peak - shifts[:, None]
    time = samples[:, :, None] / sampling_rate * 1e3 + extremum - delay
    waves = amplitude * _time_course(neuron, time, widening) * _taper(n_samples)[:, None]
    return neuron.sign * waves / waves[JITTERS // 2, peak, main]


def template_peak(sampling_rate: float) -> int:
    """Sample of a template that is the spike's time."""
    return round(PEAK_MS * sampling_rate / 1e3)


def template_samples(sampling_rate: float) -> int:
    return template_peak(sampling_rate) + round(AFTER_MS * sampling_rate / 1e3)


def _taper(n_samples: int) -> np.ndarray:
    """Bring both ends of a template to zero, so that it adds no step to the traces."""
    edge = max(2, n_samples // 12)
    ramp = np.sin(0.5 * np.pi * np.arange(edge) / edge) ** 2
    return np.concatenate([ramp, np.ones(n_samples - 2 * edge), ramp[::-1]])
