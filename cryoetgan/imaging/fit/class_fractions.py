"""Estimate the class fractions of a tomogram's picks, false picks included.

Counting the answers of a classifier is biased, because it errs more often for some classes.
Here the imaging model simulates picks of every class, and false picks. A classifier trained on
them gives each real pick its class probabilities. Expectation-maximisation for label shift
(Saerens 2002, doi 10.1162/089976602753284446) then finds the fractions that explain them.

If picks were aligned, the class from template matching is a second, independent observation.
It rests on the structures alone; the classifier also rests on the simulated physics, which
is less accurate for some tomograms, such as denoised ones.

If the picks competed with decoys, the fractions are counted (`count_class_fractions`): decoys stand
for whatever else the tomogram holds, which no simulation knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryoetgan import seeds
from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.model import SCENE_BOXES, ImagingModel
from cryoetgan.io.star import OTHER
from cryoetgan.particles.picking.dog import SIGMA_RATIO
from cryoetgan.physics.geometry import centre_distance, random_rotations
from cryoetgan.physics.optics import frequency_axes

Floats = NDArray[np.floating]


class ShapeFeatures:
    """Shape features of boxes that do not depend on the particle's orientation and offset.

    Each box is smoothed and centred on the bright voxels near its centre. Its features are moments
    of the grey values in shells and the principal radii of the bright voxels. They do not change
    if the particle is rotated (except for the missing wedge) or picked slightly off its centre.

    All parameters are in voxels: the box, the radius of the largest particle, the standard
    deviations of the smoothing Gaussians, the thickness of a shell. The radius limits the
    centring; shells reach half as far again, within the box.
    """

    def __init__(
        self, box: int, radius: float, widths: tuple[float, ...] = (1.0, 2.0), shell: float = 1.5
    ) -> None:
        self.box = box
        self.reach = min(1.5 * radius, box / 2 - 1)
        self.radius = min(radius, self.reach)
        k2 = sum(k**2 for k in frequency_axes((box,) * 3, 1.0))
        self._smooth = [np.exp(-2 * (np.pi * w) ** 2 * k2).astype(np.float32) for w in widths]
        axis = np.arange(box) - box // 2
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).astype(np.float32)
        distance = centre_distance(box).astype(np.float32)
        self._near = np.flatnonzero(distance <= self.radius)
        self._inner = np.flatnonzero(distance < self.reach)
        self._shell = (distance.ravel()[self._inner] / shell).astype(int)
        self._count = np.bincount(self._shell)
        self._grid = grid.reshape(3, -1)

    def describe(self, volume: Floats) -> NDArray[np.float64]:
        """Return the features of one box `(z, y, x)`."""
        spectrum = fft.rfftn(np.asarray(volume, np.float32) - np.float32(np.mean(volume)))
        smooth = [fft.irfftn(spectrum * s, volume.shape) for s in self._smooth]
        shift = self._bright_centre(smooth[-1])
        features: list[Floats] = []
        for part in smooth:
            centred = np.roll(part, tuple(-shift), axis=(0, 1, 2)).ravel()[self._inner]
            mean = self._shell_mean(centred)
            square = self._shell_mean(centred**2)
            features += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
            features += [np.cbrt(self._shell_mean(centred**3)), *self._principal_radii(centred)]
        return np.concatenate(features)

    def _bright_centre(self, smooth: Floats, rounds: int = 3) -> NDArray[np.int_]:
        """Return the centre of mass of the bright voxels, zyx from voxel n // 2."""
        total = np.zeros(3, int)
        for _ in range(rounds):
            centred = np.roll(smooth, tuple(-total), axis=(0, 1, 2)).ravel()[self._near]
            weight = np.maximum(centred, 0)
            moved = self._grid[:, self._near] @ weight / max(float(weight.sum()), 1e-12)
            total = total + np.rint(moved).astype(int)
        return np.clip(total, -(self.box // 4), self.box // 4)

    def _shell_mean(self, values: Floats) -> Floats:
        return np.bincount(self._shell, values, len(self._count)) / np.maximum(self._count, 1)

    def _principal_radii(self, centred: Floats) -> list[Floats]:
        """Return the principal radii of the bright voxels, by grey value and its square."""
        radii, places = [], self._grid[:, self._inner]
        for power in (1, 2):
            weight = np.maximum(centred, 0) ** power
            weight /= max(float(weight.sum()), 1e-12)
            middle = places @ weight
            second = (places * weight) @ places.T - np.outer(middle, middle)
            radii.append(np.sqrt(np.maximum(np.linalg.eigvalsh(second), 0)))
        return radii


@dataclass(frozen=True)
class LinearDiscriminant:
    """Fisher's linear discriminant of several classes with equal priors.

    p(class i | x) is proportional to exp(x^T S^-1 m_i - m_i^T S^-1 m_i / 2), with x the
    standardised features, m_i the class means and S the covariance within classes.
    """

    means: Floats
    """`(classes, features)` in standardised features."""
    inverse: Floats
    """`(features, features)` inverse of the covariance within classes."""
    centre: Floats
    """`(features,)`; the standardised features are (features - centre) / scale."""
    scale: Floats
    """`(features,)`."""

    @classmethod
    def fit(
        cls, features: Floats, labels: NDArray[np.int_], ridge: float = 0.05
    ) -> "LinearDiscriminant":
        """Return the discriminant of labelled features `(N, features)`.

        `ridge` is added to the diagonal of the covariance, relative to its mean.
        """
        centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
        x = (features - centre) / scale
        count = int(labels.max()) + 1
        means = np.array([x[labels == i].mean(axis=0) for i in range(count)])
        within = np.cov((x - means[labels]).T) * (len(x) - 1) / (len(x) - count)
        diagonal = ridge * np.trace(within) / len(within) * np.eye(len(within))
        return cls(means, np.linalg.inv(within + diagonal), centre, scale)

    def probabilities(self, features: Floats) -> Floats:
        """Return the class probabilities `(N, classes)` under equal priors."""
        x = (features - self.centre) / self.scale
        half = np.einsum("ij,jk,ik->i", self.means, self.inverse, self.means) / 2
        score = x @ self.inverse @ self.means.T - half
        p = np.exp(score - score.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)


def em_class_priors(
    probabilities: Floats, max_iterations: int = 500, tolerance: float = 1e-6
) -> Floats:
    """Return the class priors of maximum likelihood, from probabilities of equal priors.

    Expectation-maximisation for label shift (Saerens 2002, doi 10.1162/089976602753284446):

        E: q(i | x) = p(i | x) pi_i / sum over j of p(j | x) pi_j
        M: pi_i = mean over x of q(i | x)

    from equal priors pi, until no prior changes by more than `tolerance`. The probabilities are
    `(N, classes)`.

    Examples
    --------
    >>> em_class_priors(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    array([0.75, 0.25])
    """
    priors = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    for _ in range(max_iterations):
        before = priors
        priors = posterior_probabilities(probabilities, priors).mean(axis=0)
        if np.abs(priors - before).max() < tolerance:
            break
    return priors


def posterior_probabilities(probabilities: Floats, priors: Floats) -> Floats:
    """Return probabilities `(N, classes)` of equal priors under other priors (the E step)."""
    posterior = probabilities * priors
    return posterior / np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)


@dataclass(frozen=True)
class ClassFractions:
    """Class fractions of picks."""

    names: list[str]
    """Classes, `other` last."""
    fractions: Floats
    """`(classes,)`, sum 1."""
    errors: Floats
    """`(classes,)` standard errors of the fractions."""


@dataclass(frozen=True)
class ShapeFractions(ClassFractions):
    """Class fractions by a classifier of shapes."""

    confusion: Floats
    """`(classes, classes)` of simulated picks, cross-validated: rows true, sums 1."""
    posterior: Floats
    """`(N, classes)` of the real picks, under the fractions."""


def count_class_fractions(
    classes: NDArray[np.str_], counts: Floats, names: Sequence[str]
) -> ClassFractions:
    """Return the class fractions of picks by target-decoy counts; the last name is the rest.

    `classes` are the `(N,)` classes that fit best, `counts` the contributions of the picks to the
    number of particles of their class (`judge_picks`). Standard errors assume Poisson
    counts.

    Examples
    --------
    >>> names = np.array(["a", "a", "a", "b", "b"])
    >>> found = count_class_fractions(names, np.array([1.0, 1, -1, 1, 0]), ["a", "b", "other"])
    >>> found.fractions.tolist()
    [0.2, 0.2, 0.6]
    """
    own = np.array([classes == name for name in names[:-1]]).reshape(-1, len(counts))
    found = np.maximum(own @ counts, 0) / len(counts)
    errors = np.sqrt(own @ counts**2) / len(counts)
    rest = max(1 - float(found.sum()), 0.0)
    errors = np.append(errors, np.linalg.norm(errors))
    return ClassFractions(list(names), np.append(found, rest), errors)


def combine_with_matching(
    probabilities: Floats, matched: NDArray[np.int_], accuracy: float = 0.9
) -> Floats:
    """Return probabilities times the likelihood of the class from template matching.

    For a particle, template matching names the true class with probability `accuracy`, and each
    other class equally often. For a false pick it names every class equally often. The default
    is cautious: 0.989 was measured on the shared test tomograms. The probabilities are
    `(N, classes)`, false picks last; `matched` are the `(N,)` classes from template matching.
    """
    classes = probabilities.shape[1] - 1
    likelihood = np.full(probabilities.shape, (1 - accuracy) / max(classes - 1, 1))
    likelihood[np.arange(len(matched)), matched] = accuracy if classes > 1 else 1.0
    likelihood[:, -1] = 1 / classes
    return probabilities * likelihood


def estimate_class_fractions(
    simulated: tuple[Floats, NDArray[np.int_]],
    real: Floats,
    names: Sequence[str],
    seed: int,
    matched: NDArray[np.int_] | None = None,
    resamplings: int = 50,
) -> ShapeFractions:
    """Return the class fractions of real picks, with standard errors from bootstrap samples.

    `simulated` are the features `(M, features)` of simulated picks and their classes `(M,)`,
    indices into `names`; `real` the features `(N, features)` of the picks; `matched` their classes
    `(N,)` from template matching, if known. The class of false picks is the last name.
    """
    features, labels = simulated
    probabilities = LinearDiscriminant.fit(features, labels).probabilities(real)
    if matched is not None:
        probabilities = combine_with_matching(probabilities, matched)
    fractions = em_class_priors(probabilities)
    rng = seeds.rng(seed, "imaging", "shares")
    resampled = [
        em_class_priors(probabilities[rng.integers(len(real), size=len(real))])
        for _ in range(resamplings)
    ]
    return ShapeFractions(
        list(names),
        fractions,
        np.std(resampled, axis=0),
        cross_validated_confusion(features, labels, len(names)),
        posterior_probabilities(probabilities, fractions),
    )


def cross_validated_confusion(features: Floats, labels: NDArray[np.int_], classes: int) -> Floats:
    """Return the confusion matrix `(true, predicted)` by two-fold cross-validation; rows sum to 1."""
    confusion = np.zeros((classes, classes))
    fold = np.arange(len(labels)) % 2
    for part in (0, 1):
        fitted = LinearDiscriminant.fit(features[fold != part], labels[fold != part])
        answers = fitted.probabilities(features[fold == part]).argmax(axis=1)
        np.add.at(confusion, (labels[fold == part], answers), 1)
    return confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)


def simulate_picks(
    model: ImagingModel, sigma: float, seed: int, per_class: int = 40, offset_sd: float = 1.0
) -> Iterator[tuple[NDArray[np.float32], str]]:
    """Yield `per_class` simulated picks of each class, and false picks, with their classes.

    `sigma` is the width of the Gaussian filter that found the picks, `offset_sd` the standard
    deviation of the picking error along each axis, both in voxels.
    """
    for name in sorted(model.maps):
        pose = Poser(model.maps[name])
        for index in range(per_class):
            rng = seeds.rng(seed, "imaging", "shares", name, index)
            centre = rng.normal(0, offset_sd, 3)
            target = pose(random_rotations(1, rng)[0], centre)
            signal, noise = model.signal_and_noise(target, centre, rng)
            yield signal + noise, name
    for index in range(per_class):
        rng = seeds.rng(seed, "imaging", "shares", OTHER, index)
        scene = model.signal(model.build_scene(None, np.zeros(3), rng))
        scene += model.noise((SCENE_BOXES * model.box,) * 3, rng)
        yield cut_brightest_blob(scene, model.box, sigma), OTHER


def cut_brightest_blob(scene: Floats, box: int, sigma: float) -> NDArray[np.float32]:
    """Return the box around the maximum of a DoG filter near the centre of a scene.

    A false pick is not a random position, but one at which noise resembles a particle.
    """
    blurred = ndimage.gaussian_filter(scene, sigma, mode="wrap")
    blurred -= ndimage.gaussian_filter(scene, SIGMA_RATIO * sigma, mode="wrap")
    # farther from the centre, the maximum could be a neighbour
    middle, reach = scene.shape[0] // 2, max(1, min(round(sigma), box // 2 - 1))
    near = (slice(middle - reach, middle + reach + 1),) * 3
    place = np.unravel_index(int(blurred[near].argmax()), (2 * reach + 1,) * 3)
    low = np.array(place) + middle - reach - box // 2
    return np.asarray(scene[tuple(slice(a, a + box) for a in low)], np.float32)
