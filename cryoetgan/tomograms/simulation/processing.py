"""Processing of a reconstruction that no model of signal and noise makes: a denoiser, a grey scale."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError

ITERATIONS = 30
"""Largest number of iterations of the denoiser."""


def process(
    tomogram: NDArray[np.float32], denoise: float = 0.0, saturation: float | None = None
) -> NDArray[np.float32]:
    """Return a tomogram `(z, y, x)` denoised, its grey values bent; mean 0, standard deviation 1.

    Parameters
    ----------
    tomogram : ndarray
        Mean 0, standard deviation 1.
    denoise : float
        w of total variation denoising, the minimum over u of |u - v|^2 / 2 + w |grad u| (Chambolle
        2004, doi 10.1023/B:JMIV.0000011325.36760.1e), standard deviations; 0: none.
    saturation : float, optional
        s of the grey scale v to tanh(v / s), standard deviations; None: linear.
    """
    out = tomogram
    if denoise:
        out = _standardise(find_denoiser()(out, denoise, max_num_iter=ITERATIONS))
    if saturation is not None:
        out = _standardise(np.tanh(out / np.float32(saturation)))
    return out


def find_denoiser() -> Callable[..., NDArray[np.floating]]:
    """Return scikit-image's total variation denoiser; raise `UserError` if it is not installed."""
    try:
        from skimage.restoration import denoise_tv_chambolle
    except ImportError as error:
        raise UserError(
            "--denoise: scikit-image is not installed; pip install 'cryoetgan[tomograms]', or "
            "leave the option out"
        ) from error
    return denoise_tv_chambolle


def _standardise(volume: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a volume with mean 0 and standard deviation 1.

    Particles count, unlike at an import: after a denoiser they stand out like gold.
    """
    return np.asarray((volume - volume.mean()) / (volume.std() or 1.0), np.float32)
