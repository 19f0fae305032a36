"""Independent implementations of the same physics: torch-ctf, torch-fourier-filter and -slice.

They are not dependencies: `pip install --no-deps` them with torch-grid-utils, torch-affine-utils and
einops (`benchmarks/requirements.txt`), or these tests are skipped.
"""

import numpy as np
import pytest

from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.tomograms.options import Microscope
from cryoetgan.tomograms.simulation.reconstruction import project_tilt_series
from cryoetgan.tomograms.simulation.tilt_series import TiltSeries, dose_envelope

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def peer(name):
    return pytest.importorskip(name, reason=f"the peer {name} is not installed")


@pytest.mark.parametrize("shape", [(64, 64), (48, 65)])
@pytest.mark.parametrize(("angle", "plate"), [(0.0, 0.0), (30.0, 0.0), (75.0, 90.0)])
def test_the_ctf_is_that_of_torch_ctf(shape, angle, plate):
    torch_ctf = peer("torch_ctf")
    scope = Microscope(astigmatism=0.6, astigmatism_angle=angle, phase_shift=plate)
    optics = Acquisition(defocus=2.5, voltage=200.0, cs=2.0, amplitude_contrast=0.1)
    series = TiltSeries(voxel_size=4.0, acquisition=optics, name="t", seed=0, microscope=scope)
    ours = series.ctf(shape)
    known = {
        "defocus": 2.5, "astigmatism": 0.3, "voltage": 200.0, "spherical_aberration": 2.0,
        "amplitude_contrast": 0.1, "phase_shift": plate, "pixel_size": 4.0, "image_shape": shape,
        "rfft": True, "fftshift": False,
    }  # fmt: skip
    # its angle is counted from the second axis
    right, mirrored = (
        torch_ctf.calculate_ctf_2d(astigmatism_angle=90 - sign * angle, **known).numpy()
        for sign in (1, -1)
    )
    assert np.abs(right - ours).max() < 1e-3
    if angle:
        assert np.abs(mirrored - ours).max() > 0.3  # the sense of the angle is seen


def test_the_critical_dose_is_that_of_torch_fourier_filter():
    """Its frames are weighted by exp(-N / Nc), ours by the paper's exp(-N / (2 Nc)).

    The paper's optimal exposure of 2.51 Nc holds for the latter.
    """
    weights = peer("torch_fourier_filter.dose_weight")
    k = np.linspace(0.005, 0.3, 60)
    theirs = weights.critical_exposure(torch.tensor(k)).numpy()
    for dose in (5.0, 60.0):
        ours = dose_envelope(k, dose)
        assert np.allclose(-dose / (2 * np.log(ours)), theirs, rtol=1e-5)
    n = np.linspace(0.1, 6, 600)  # in units of Nc: signal squared over noise, of all frames to n
    gain = (2 * (1 - np.exp(-n / 2))) ** 2 / n
    assert n[gain.argmax()] == pytest.approx(2.51, abs=0.01)


def test_projections_are_those_of_torch_fourier_slice(rng):
    slices = peer("torch_fourier_slice")
    size = 48
    z, y, x = np.indices((size,) * 3) - size // 2
    volume = np.zeros((size,) * 3, np.float32)
    for _ in range(8):
        a, b, c = rng.uniform(-9, 9, 3)
        volume += np.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / 16).astype(np.float32)
    tilts = np.array([-60.0, -20.0, 0.0, 35.0, 60.0])
    ours = project_tilt_series(volume, tilts).transpose(0, 2, 1)  # (tilt, y, u)
    errors = []
    for sign in (1, -1):
        turns = np.radians(sign * tilts)
        matrices = np.zeros((len(tilts), 3, 3), np.float32)
        matrices[:, 0, 0] = matrices[:, 2, 2] = np.cos(turns)
        matrices[:, 0, 2], matrices[:, 2, 0] = np.sin(turns), -np.sin(turns)
        matrices[:, 1, 1] = 1
        found = slices.project_3d_to_2d(
            torch.from_numpy(volume), torch.from_numpy(matrices), pad_factor=4.0
        )
        errors.append(np.abs(found.numpy() - ours).max() / ours.max())
    assert min(errors) < 0.02
    assert max(errors) > 0.3  # the sign of the tilt is seen
