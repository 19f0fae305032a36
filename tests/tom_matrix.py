"""The rotation of TOM and PyTom, element by element, as their published sources have it."""

import numpy as np


def tom_matrix(phi, psi, the):
    """Matrix that turns a point of the reference (x, y, z) into the particle; degrees.

    tom_pointrotate.m (TOM toolbox, Nickell 2005, doi 10.1016/j.jsb.2004.10.006), multiplied out.
    """
    f, p, t = np.radians([phi, psi, the])
    cf, sf, cp, sp, ct, st = np.cos(f), np.sin(f), np.cos(p), np.sin(p), np.cos(t), np.sin(t)
    return np.array(
        [
            [cp * cf - ct * sp * sf, -cp * sf - ct * sp * cf, st * sp],
            [sp * cf + ct * cp * sf, -sp * sf + ct * cp * cf, -st * cp],
            [st * sf, st * cf, ct],
        ]
    )
