"""How many of a tomogram's picks are of each class, and how many of none.

A classifier is never right every time, so counting its answers is biased towards what it
likes to say. The model simulates picks of every class, false ones too; a classifier learnt
on them gives each real pick its probabilities, and the shares are those that explain the
answers best: expectation and maximisation for label shift (Saerens 2002,
doi 10.1162/089976602753284446). Template matching is a second witness where picks were
aligned: it leans on structures alone, the classifier on physics that is not right everywhere
(a denoised tomogram's least).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.model import EMPTY, ImagingModel
from cryoetgan.imaging.scenes import SCENE
from cryoetgan.physics.geometry import random_rotations
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]
EACH = 40
"""Simulated picks a class."""
OFFSET = 1.0
"""Voxels; standard deviation an axis of where a particle lies about its pick."""
RIDGE = 0.05
ROUNDS = 500
RIGHT = 0.9
"""How often template matching is taken to name the right class, of particles; on the shared
tomograms 0.989. Of false picks it says nothing."""
DRAWS = 50
"""Resamplings of the picks for the standard error."""


@dataclass(frozen=True)
class Discriminant:
    """Fisher's linear discriminant of several classes, with equal priors.

    Attributes
    ----------
    means : ndarray
        `(classes, features)` in standardised features.
    inverse : ndarray
        `(features, features)` inverse of the covariance within classes.
    centre, scale : ndarray
        `(features,)`.
    """

    means: Floats
    inverse: Floats
    centre: Floats
    scale: Floats

    @classmethod
    def learnt(cls, features: Floats, labels: NDArray[np.int_]) -> "Discriminant":
        """Return the discriminant of labelled features `(N, features)`."""
        centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
        x = (features - centre) / scale
        count = int(labels.max()) + 1
        means = np.array([x[labels == i].mean(axis=0) for i in range(count)])
        within = np.cov((x - means[labels]).T) * (len(x) - 1) / (len(x) - count)
        ridge = RIDGE * np.trace(within) / len(within) * np.eye(len(within))
        return cls(means, np.linalg.inv(within + ridge), centre, scale)

    def probabilities(self, features: Floats) -> Floats:
        """Return `(N, classes)` under equal priors."""
        x = (features - self.centre) / self.scale
        half = np.einsum("ij,jk,ik->i", self.means, self.inverse, self.means) / 2
        score = x @ self.inverse @ self.means.T - half
        score -= score.max(axis=1, keepdims=True)
        p = np.exp(score)
        return p / p.sum(axis=1, keepdims=True)


def explained(probabilities: Floats) -> Floats:
    """Return the shares that explain probabilities `(N, classes)` of equal priors best."""
    count = probabilities.shape[1]
    shares = np.full(count, 1 / count)
    for _ in range(ROUNDS):
        before = shares
        posterior = probabilities * shares
        posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)
        shares = posterior.mean(axis=0)
        if np.abs(shares - before).max() < 1e-6:
            break
    return shares


@dataclass(frozen=True)
class Shares:
    """What was found.

    Attributes
    ----------
    names : list of str
        Classes, `empty` last.
    shares, errors : ndarray
        `(classes,)` and their standard errors.
    confusion : ndarray
        `(classes, classes)` of simulated picks, cross-validated: rows true, sums 1.
    posterior : ndarray
        `(N, classes)` of the real picks, under the shares.
    """

    names: list[str]
    shares: Floats
    errors: Floats
    confusion: Floats
    posterior: Floats


def witnessed(probabilities: Floats, named: NDArray[np.int_]) -> Floats:
    """Return probabilities `(N, classes)` times the likelihoods of what matching named.

    Parameters
    ----------
    probabilities : ndarray
        `(N, classes)`, the class of false picks last.
    named : ndarray of int
        `(N,)` class that template matching gave each pick.
    """
    classes = probabilities.shape[1] - 1
    likelihood = np.full(probabilities.shape, (1 - RIGHT) / max(classes - 1, 1))
    likelihood[np.arange(len(named)), named] = RIGHT if classes > 1 else 1.0
    likelihood[:, -1] = 1 / classes
    return probabilities * likelihood


def estimated(
    simulated: Floats,
    labels: NDArray[np.int_],
    real: Floats,
    names: Sequence[str],
    seed: int,
    named: NDArray[np.int_] | None = None,
) -> Shares:
    """Return the shares of real picks.

    Parameters
    ----------
    simulated : ndarray
        `(M, features)` of simulated picks.
    labels : ndarray of int
        `(M,)` indices into `names`.
    real : ndarray
        `(N, features)` of the picks.
    names : sequence of str
        Classes.
    seed : int
        Of the resampling.
    named : ndarray of int, optional
        `(N,)` what template matching took each pick for.
    """
    probabilities = Discriminant.learnt(simulated, labels).probabilities(real)
    if named is not None:
        probabilities = witnessed(probabilities, named)
    shares = explained(probabilities)
    posterior = probabilities * shares
    posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)
    numbers = rng(seed, "imaging", "shares")
    again = [
        explained(probabilities[numbers.integers(len(real), size=len(real))]) for _ in range(DRAWS)
    ]
    confusion = np.zeros((len(names),) * 2)
    fold = np.arange(len(labels)) % 2
    for part in (0, 1):
        learnt = Discriminant.learnt(simulated[fold != part], labels[fold != part])
        answers = learnt.probabilities(simulated[fold == part]).argmax(axis=1)
        np.add.at(confusion, (labels[fold == part], answers), 1)
    confusion /= np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return Shares(list(names), shares, np.std(again, axis=0), confusion, posterior)


def simulated_picks(
    model: ImagingModel, sigma: float, seed: int
) -> Iterator[tuple[NDArray[np.float32], str]]:
    """Yield simulated picks and their classes, `EACH` a class and of none.

    Parameters
    ----------
    model : ImagingModel
        Of the tomogram.
    sigma : float
        Voxels; width of the Gaussian that false picks are maxima of.
    seed : int
        The run's seed.
    """
    for name in sorted(model.maps):
        turned = Poser(model.maps[name])
        for index in range(EACH):
            numbers = rng(seed, "imaging", "shares", name, index)
            centre = numbers.normal(0, OFFSET, 3)
            target = turned(random_rotations(1, numbers)[0], centre)
            signal, noise = model.halves(target, centre, numbers)
            yield signal + noise, name
    for index in range(EACH):
        numbers = rng(seed, "imaging", "shares", EMPTY, index)
        scene = model.scene(None, np.zeros(3), numbers)
        whole = model.signal(scene) + model.noise((scene.shape[0],) * 3, numbers)
        yield highest(whole, scene.shape[0] // SCENE, sigma), EMPTY


def highest(scene: Floats, box: int, sigma: float) -> NDArray[np.float32]:
    """Return the box about the brightest blob near the middle of a scene.

    A false pick is no random place: it is where noise looked most like a particle.
    """
    blurred = ndimage.gaussian_filter(scene, sigma, mode="wrap")
    blurred -= ndimage.gaussian_filter(scene, 1.1 * sigma, mode="wrap")
    # no farther than that, or it would be a neighbour
    middle, reach = scene.shape[0] // 2, max(1, min(round(sigma), box // 2 - 1))
    near = (slice(middle - reach, middle + reach + 1),) * 3
    place = np.unravel_index(int(blurred[near].argmax()), (2 * reach + 1,) * 3)
    low = np.array(place) + middle - reach - box // 2
    return np.asarray(scene[tuple(slice(a, a + box) for a in low)], np.float32)
