"""The losses, Paper, eq. 1 to eq. 5, with the variants that presets choose from; diagnostics.

The paper's discriminators D_A and D_B are D_s (of subtomograms) and D_d (of densities) here. All
losses are minimised; a sum that the paper maximises has its sign changed.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

BACKGROUND_RADIUS = 0.4
"""Distance from the centre, as a fraction of the box, beyond which no particle reaches."""
Scores = Callable[[Tensor], Tensor]
"""A discriminator: volumes `(B, 1, z, y, x)` to scores `(B, 1, z', y', x')`."""


def cross_entropy_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the adversarial loss of one discriminator, from its scores (logits).

    Paper, eq. 1: L_GAN(G_ds, D_s, D, S) = E_s[log D_s(s)] + E_d[log(1 - D_s(G_ds(d)))].
    Paper, eq. 2: L_GAN(G_sd, D_d, S, D) = E_d[log D_d(d)] + E_s[log(1 - D_d(G_sd(s)))].
    The discriminator maximises them: this is the negative. D is the sigmoid of a score. The paper
    prints s for d in the first term of eq. 2.
    """
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def wasserstein_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the difference of mean scores, an estimate of the negative Wasserstein distance.

    Paper, eq. 4: W(P_r, P_g) = inf over joint distributions gamma of E_gamma[|x - y|]. Its dual
    form is W = max over 1-Lipschitz D of E_s[D(s)] - E_d[D(G(d))] (Arjovsky 2017, doi
    10.48550/arXiv.1701.07875); D is kept Lipschitz by `clip_weights` or spectral norm.
    """
    return fake.mean() - real.mean()


@torch.no_grad()
def clip_weights(discriminator: nn.Module, bound: float) -> None:
    """Keep the convolution weights within +-bound (with Paper, eq. 4: "clip the weight of D")."""
    for name, weight in discriminator.named_parameters():
        # with spectral norm the trained weight is called ...weight.original
        if weight.dim() == 5 and "weight" in name:
            weight.clamp_(-bound, bound)


def discriminator_loss(kind: str, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
    """Return the loss of one discriminator from its scores of real and generated volumes.

    Parameters
    ----------
    kind : str
        bce: `cross_entropy_loss`. wgan, wgan-gp: `wasserstein_loss`. lsgan: squared differences,
        halved as CycleGAN does. hinge: doi 10.48550/arXiv.1705.02894.
    real, fake : Tensor
        Scores, any shape.
    real_label : float
        Target score of real volumes with lsgan.
    """
    if kind == "bce":
        return cross_entropy_loss(real, fake)
    if kind in ("wgan", "wgan-gp"):
        return wasserstein_loss(real, fake)
    if kind == "lsgan":
        return 0.5 * (((real - real_label) ** 2).mean() + (fake**2).mean())
    if kind == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    raise ValueError(kind)


def generator_loss(kind: str, fake: Tensor, real_label: float = 1.0) -> Tensor:
    """Return the adversarial loss of one generator from the scores of its volumes.

    bce: -log D(G(d)), the form of Paper, eq. 1 and eq. 2 whose gradient does not vanish. wgan,
    wgan-gp and hinge: the negative mean score. lsgan: squared differences, not halved.
    """
    if kind == "bce":
        return functional.softplus(-fake).mean()
    if kind in ("wgan", "wgan-gp", "hinge"):
        return -fake.mean()
    if kind == "lsgan":
        return ((fake - real_label) ** 2).mean()
    raise ValueError(kind)


def cycle_loss(d: Tensor, cycled_d: Tensor, s: Tensor, cycled_s: Tensor) -> Tensor:
    """Return the cycle-consistency loss of both directions.

    Paper, eq. 3: L_cyc(G_ds, G_sd) = E_d[|G_sd(G_ds(d)) - d|_1] + E_s[|G_ds(G_sd(s)) - s|_1].

    Parameters
    ----------
    d, s : Tensor
        Densities and subtomograms `(B, 1, z, y, x)`.
    cycled_d, cycled_s : Tensor
        G_sd(G_ds(d)) and G_ds(G_sd(s)).
    """
    return functional.l1_loss(cycled_d, d) + functional.l1_loss(cycled_s, s)


def full_objective(
    adversarial_s: Tensor, adversarial_d: Tensor, cycle: Tensor, weight: float
) -> Tensor:
    """Return the full objective, which the generators minimise.

    Paper, eq. 5: L(G_ds, G_sd, D_s, D_d) = L_GAN(G_ds, D_s, D, S) + L_GAN(G_sd, D_d, S, D)
    + lambda L_cyc(G_ds, G_sd).

    Parameters
    ----------
    adversarial_s, adversarial_d : Tensor
        `generator_loss` of G_ds and of G_sd.
    cycle : Tensor
        `cycle_loss`.
    weight : float
        lambda; the paper does not state its value.
    """
    return adversarial_s + adversarial_d + weight * cycle


def gradient_penalty(
    discriminator: Scores, real: Tensor, fake: Tensor, fraction: Tensor, norm: str = "volume"
) -> Tensor:
    """Return (|gradient| - 1)^2 between real and generated volumes.

    Gulrajani 2017, doi 10.48550/arXiv.1704.00028.

    Parameters
    ----------
    discriminator : callable
        Volumes to scores.
    real, fake : Tensor
        `(B, 1, z, y, x)`.
    fraction : Tensor
        `(B, 1, 1, 1, 1)` in [0, 1], position on the line from `fake` to `real`.
    norm : {'volume', 'axis'}
        Norm over all voxels, or along the first axis as in the authors' published code.
    """
    between = (fraction * real + (1 - fraction) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    if norm == "axis":
        return ((slope.square().sum(dim=2).add(1e-12).sqrt() - 1) ** 2).mean()
    return ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()


def r1_penalty(discriminator: Scores, real: Tensor) -> Tensor:
    """Return half of |gradient|^2 at real volumes (doi 10.48550/arXiv.1801.04406)."""
    volumes = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(volumes).sum(), volumes, create_graph=True)
    return 0.5 * (slope.flatten(1) ** 2).sum(dim=1).mean()


def lowpass(volumes: Tensor, sigma: float) -> Tensor:
    """Return `(B, 1, z, y, x)` smoothed by a Gaussian of `sigma` voxels; 0: unchanged."""
    if sigma <= 0:
        return volumes
    radius = int(3 * sigma + 0.5)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for dim in (2, 3, 4):
        # a banded matrix: on CPUs a convolution of one channel is ten times slower
        index = torch.arange(volumes.shape[dim])
        distance = (index[:, None] - index).clamp(-radius - 1, radius + 1)
        matrix = functional.pad(kernel, (1, 1))[distance + radius + 1].to(volumes)
        volumes = torch.tensordot(volumes, matrix, ([dim], [0])).movedim(-1, dim)
    return volumes


def identity_l1(translated: Tensor, original: Tensor, sigma: float) -> Tensor:
    """Return the mean absolute difference of the low-passed volumes `(B, 1, z, y, x)`."""
    return functional.l1_loss(lowpass(translated, sigma), lowpass(original, sigma))


def identity_cosine(translated: Tensor, original: Tensor, sigma: float) -> Tensor:
    """Return 1 minus the cosine between the low-passed, mean-free volumes, averaged.

    It keeps positions and leaves the contrast to the discriminator.
    """
    pair = (v - v.mean(dim=(1, 2, 3, 4), keepdim=True) for v in (translated, original))
    a, b = (lowpass(volumes, sigma).flatten(1) for volumes in pair)
    a, b = (flat - flat.mean(dim=1, keepdim=True) for flat in (a, b))
    return 1 - functional.cosine_similarity(a, b, dim=1, eps=1e-6).mean()


def centre_shift(generated: Tensor, densities: Tensor) -> Tensor:
    """Return the distance in whole voxels between generated particles and their densities.

    It is the position of the peak of the cross-correlation, summed over the batch; random
    differences have no direction and cancel.

    Parameters
    ----------
    generated, densities : Tensor
        `(N, 1, z, y, x)`.
    """
    shape, axes = generated.shape[-3:], (-3, -2, -1)
    a, b = (torch.fft.rfftn(v.float() - v.float().mean(), dim=axes) for v in (generated, densities))
    correlation = torch.fft.irfftn((a * b.conj()).sum(dim=(0, 1)), s=shape, dim=axes)
    peak = torch.stack(torch.unravel_index(correlation.argmax(), shape)).float()
    size = torch.tensor(shape, device=peak.device)
    peak = torch.where(peak > size // 2, peak - size, peak)
    return torch.linalg.vector_norm(peak)


def background_mean(volumes: Tensor) -> Tensor:
    """Return the mean grey value of the background of volumes `(N, 1, n, n, n)`."""
    n = volumes.shape[-1]
    axis = torch.arange(n, device=volumes.device) - n // 2
    square = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2
    return volumes[..., square > (BACKGROUND_RADIUS * n) ** 2].mean()
