"""The losses, one function a term; equation numbers are the paper's."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Critic = Callable[[Tensor], Tensor]


def critic_loss(kind: str, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
    """Return the discriminator's loss from its scores of real and generated volumes.

    Parameters
    ----------
    kind : str
        bce: equations 1 and 2, scores being logits: -log D(real) - log(1 - D(fake)).
        wgan, wgan-gp: the difference of means, which estimates equation 4 (negative).
        lsgan: squares, halved as CycleGAN does. hinge: doi 10.48550/arXiv.1705.02894.
    real, fake : Tensor
        Scores, any shape.
    real_label : float
        Target of lsgan for real volumes.
    """
    if kind == "bce":
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()
    if kind in ("wgan", "wgan-gp"):
        return fake.mean() - real.mean()
    if kind == "lsgan":
        return 0.5 * (((real - real_label) ** 2).mean() + (fake**2).mean())
    if kind == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    raise ValueError(kind)


def generator_loss(kind: str, fake: Tensor, real_label: float = 1.0) -> Tensor:
    """Return the generator's adversarial loss.

    bce: -log D(fake), the form of equations 1 and 2 that does not saturate; wgan, wgan-gp and
    hinge: the critic's mean, negated; lsgan: squares, not halved.
    """
    if kind == "bce":
        return functional.softplus(-fake).mean()
    if kind in ("wgan", "wgan-gp", "hinge"):
        return -fake.mean()
    if kind == "lsgan":
        return ((fake - real_label) ** 2).mean()
    raise ValueError(kind)


def cycle_loss(back: Tensor, start: Tensor) -> Tensor:
    """Return the mean absolute difference, equation 3."""
    return (back - start).abs().mean()


def gradient_penalty(
    critic: Critic, real: Tensor, fake: Tensor, share: Tensor, norm: str = "volume"
) -> Tensor:
    """Return (|grad| - 1)^2 between real and generated volumes (doi 10.48550/arXiv.1704.00028).

    Parameters
    ----------
    share : Tensor
        `(B, 1, 1, 1, 1)` in [0, 1]: where on the line between the two.
    norm : {'volume', 'axis'}
        Over all voxels of a volume, or along its first axis, as the authors' code has it.
    """
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    if norm == "axis":
        return ((slope.square().sum(dim=2).add(1e-12).sqrt() - 1) ** 2).mean()
    return ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """Return half of |grad|^2 at real volumes (doi 10.48550/arXiv.1801.04406)."""
    volumes = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(volumes).sum(), volumes, create_graph=True)
    return 0.5 * (slope.flatten(1) ** 2).sum(dim=1).mean()


def lowpass(volumes: Tensor, sigma: float) -> Tensor:
    """Return `(B, 1, z, y, x)` smoothed by a Gaussian of `sigma` voxels; 0: as they are."""
    if sigma <= 0:
        return volumes
    reach = int(3 * sigma + 0.5)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for dim in (2, 3, 4):
        # as a banded matrix: on CPUs a convolution of one channel is ten times slower
        at = torch.arange(volumes.shape[dim])
        apart = (at[:, None] - at).clamp(-reach - 1, reach + 1)
        matrix = functional.pad(kernel, (1, 1))[apart + reach + 1].to(volumes)
        volumes = torch.tensordot(volumes, matrix, ([dim], [0])).movedim(-1, dim)
    return volumes


def lowpass_identity(translated: Tensor, start: Tensor, sigma: float) -> Tensor:
    """Return the mean absolute difference of the smoothed volumes."""
    return cycle_loss(lowpass(translated, sigma), lowpass(start, sigma))


def lowpass_cosine(translated: Tensor, start: Tensor, sigma: float) -> Tensor:
    """Return one minus the cosine between the smoothed, mean-free volumes, averaged.

    It keeps what is where and leaves the contrast to the critic.
    """
    pair = (
        volumes - volumes.mean(dim=(1, 2, 3, 4), keepdim=True) for volumes in (translated, start)
    )
    a, b = (lowpass(volumes, sigma).flatten(1) for volumes in pair)
    a, b = (flat - flat.mean(dim=1, keepdim=True) for flat in (a, b))
    return 1 - functional.cosine_similarity(a, b, dim=1, eps=1e-6).mean()


def label_cosine(made: Tensor, signal: Tensor) -> Tensor:
    """Return one minus the cosine between volumes averaged over 2^3 voxels and mean-free.

    `made` is the mean of what two noises of opposite sign give: what is odd in the noise is
    gone, what is left must lie where the signal does. Edges may be odd: the rest is cut.
    """
    a, b = (functional.avg_pool3d(volumes, 2).flatten(1) for volumes in (made, signal))
    a, b = (flat - flat.mean(dim=1, keepdim=True) for flat in (a, b))
    return 1 - functional.cosine_similarity(a, b, dim=1, eps=1e-6).mean()
