"""The filter's design against SciPy's."""

import numpy as np
import pytest
from scipy.signal import butter, sosfreqz

from yass_dask.butterworth import butterworth

KINDS = {(True, True): "bandpass", (True, False): "highpass", (False, True): "lowpass"}


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("low", "high"), [(300.0, 6000.0), (300.0, None), (None, 6000.0), (4900.0, 5100.0), (1.0, 9e3)]
)
def test_it_is_the_filter_that_scipy_designs(order, low, high):
    rate = 20_000.0
    corners = [f for f in (low, high) if f is not None]
    kind = KINDS[low is not None, high is not None]
    expected = butter(order, corners if len(corners) > 1 else corners[0], kind, fs=rate, output="sos")
    found = butterworth(order, low, high, rate)
    assert found.shape == expected.shape
    frequencies = np.geomspace(1.0, 9_999.0, 200)
    response, wanted = (sosfreqz(sos, frequencies, fs=rate)[1] for sos in (found, expected))
    np.testing.assert_allclose(response, wanted, atol=1e-7)


def test_the_most_resonant_section_comes_last():
    sos = butterworth(4, 300.0, 6000.0, 30_000.0)
    radius = [np.abs(np.roots(section[3:])).max() for section in sos]
    assert radius == sorted(radius)


def test_no_corner_is_no_filter():
    with pytest.raises(ValueError, match="corner"):
        butterworth(3, None, None, 30_000.0)
