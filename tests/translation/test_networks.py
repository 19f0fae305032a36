"""The paper's networks: parameter counts, shapes, receptive fields, spectral norm."""

import itertools

import pytest
import torch

from cryoetgan.translation import networks as public
from cryoetgan.translation.cyclegan.networks import (
    DENSITY_GAIN,
    Discriminator,
    FilterGenerator,
    Generator,
    convolve_periodically,
)
from cryoetgan.translation.cyclegan.trainer import make_discriminator, make_generator
from cryoetgan.translation.presets import read_preset


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_their_public_name():
    assert public.Generator is Generator
    assert public.Discriminator is Discriminator


def test_parameter_counts_are_the_papers_and_the_released_codes():
    assert count(Generator()) == 5_005_121
    assert count(Generator(blocks=6)) == 5_890_625
    assert count(Discriminator()) == 2_643_137
    released = read_preset("released")
    assert count(make_generator(released)) == 7_122_816
    assert count(make_discriminator(released)) == 11_048_705
    # spectral norm changes what a weight is called, not how many there are
    assert count(Discriminator(spectral=False)) == 2_643_137
    assert count(Generator((64, 128, 256), 9)) > count(Generator())


@pytest.mark.parametrize(("stride", "kernel", "field"), [(2, 4, 46), (1, 4, 13), (2, 3, 31)])
def test_a_score_depends_on_its_receptive_field(stride, kernel, field):
    discriminator = Discriminator((4, 4, 4), stride, norm=False, spectral=False, kernel=kernel)
    volume = torch.zeros(1, 1, 64, 20, 20) if stride == 1 else torch.zeros(1, 1, 128, 32, 32)
    volume = torch.rand(volume.shape).requires_grad_()
    scores = discriminator(volume)
    middle = [n // 2 for n in scores.shape[2:]]
    scores[0, 0, middle[0], middle[1], middle[2]].backward()
    reached = volume.grad[0, 0].abs().amax(dim=(1, 2)) > 0
    where = torch.nonzero(reached).flatten()
    assert int(where.max() - where.min()) + 1 == field


@pytest.mark.parametrize(("box", "scores"), [(40, 3), (28, 2)])
def test_the_published_discriminator_returns_a_map_of_scores(box, scores):
    released = read_preset("released").replace(discriminator_widths=(4, 4, 4, 4))
    discriminator = make_discriminator(released)
    assert discriminator(torch.zeros(1, 1, box, box, box)).shape == (1, 1, scores, scores, scores)
    assert discriminator.smallest_box() <= box


@pytest.mark.parametrize("box", [16, 20, 28, 40])
def test_any_cube_divisible_by_four_keeps_its_shape(box):
    generator = Generator((4, 4, 8), 1)
    assert generator(torch.zeros(2, 1, box, box, box)).shape == (2, 1, box, box, box)
    assert Discriminator((4, 4, 4)).smallest_box() == 16


def test_the_smallest_box_has_one_score():
    for strides, kernel, norm, padding in itertools.product(
        (1, 2), (3, 4), (True, False), ("even", "same")
    ):
        d = Discriminator((2, 2), strides, norm, padding=padding, kernel=kernel)
        box = d.smallest_box()
        assert d(torch.zeros(1, 1, box, box, box)).numel() >= 1
        if box == 1:
            continue
        with pytest.raises((RuntimeError, ValueError)):
            d(torch.zeros(1, 1, box - 1, box - 1, box - 1))


def test_noise_before_the_last_layer_reaches_single_voxels():
    torch.manual_seed(0)
    generator = Generator((4, 4, 8), 1, 2, noise_at="last", resampling="resize").eval()
    x = torch.rand(1, 1, 16, 16, 16)
    noise = torch.zeros(generator.noise_shape(x))
    assert noise.shape == (1, 2, 16, 16, 16)
    with torch.no_grad():
        before = generator(x, noise)
        noise[0, 0, 8, 8, 8] = 1.0
        changed = (generator(x, noise) != before)[0, 0].nonzero()
    # 7^3 voxels of the last convolution, not the 4^3 of the bottleneck and all around them
    assert changed.amin() >= 8 - 3
    assert changed.amax() <= 8 + 3
    assert len(changed) > 64


def test_the_filter_generator_starts_as_density_plus_noise():
    torch.manual_seed(0)
    generator = FilterGenerator(size=7, width=4)
    x = torch.randn(2, 1, 12, 12, 12)
    noise = torch.randn(generator.noise_shape(x))
    assert torch.allclose(generator(x, noise), DENSITY_GAIN * x + noise, atol=1e-5)
    assert torch.allclose(FilterGenerator(7, 4, noise=False)(x), x, atol=1e-5)
    # the correction has a gradient at zero, so it can leave it
    generator(x, noise).square().mean().backward()
    assert float(generator.correction.last.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("size", [3, 5, 9, 15])
def test_periodic_convolution_is_the_sum_over_shifted_volumes(size):
    torch.manual_seed(0)
    volumes, kernels = torch.randn(2, 2, 9, 8, 7), torch.zeros(2, size, size, size)
    middle = size // 2
    taps = {(0, 0, 1): 2.0, (-1, 1, 0): -3.0, (middle, 0, -middle): 0.5}
    expected = torch.zeros_like(volumes)
    for offset, value in taps.items():
        kernels[1][tuple(o + middle for o in offset)] += value
        expected[:, 1] += value * torch.roll(volumes[:, 1], offset, (1, 2, 3))
    assert torch.allclose(convolve_periodically(volumes, kernels), expected, atol=1e-5)


def test_output_is_bounded_and_noise_and_dropout_change_it():
    torch.manual_seed(0)
    generator = Generator((4, 8, 8), 2, noise_channels=4, dropout=0.5).eval()
    x = torch.rand(1, 1, 16, 16, 16)
    fixed = torch.randn(generator.noise_shape(x))
    with torch.no_grad():
        first = generator(x, fixed)
        assert first.abs().max() <= 1
        assert torch.equal(first, generator(x, fixed))
        assert not torch.equal(first, generator(x, fixed + 1))
        generator.train()
        assert not torch.equal(generator(x, fixed), generator(x, fixed))


def test_dropout_of_the_published_code_acts_on_the_output():
    torch.manual_seed(0)
    tiny = {"widths": (4, 4, 4), "blocks": 1, "noise_channels": 1, "dropout": 0.5}
    generator = make_generator(read_preset("released").replace(**tiny)).train()
    x = torch.rand(1, 1, 16, 16, 16)
    made = generator(x)
    assert float((made == 0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_spectral_norm_holds():
    torch.manual_seed(0)
    discriminator = Discriminator((8, 16, 16)).train()
    for layer in discriminator.convolutions():
        layer.parametrizations.weight.original.data *= 50
    with torch.no_grad():
        for _ in range(60):
            discriminator(torch.rand(1, 1, 16, 16, 16))
        for layer in discriminator.eval().convolutions():
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert largest <= 1.01


def test_bfloat16_gradients_of_every_layer_agree_with_float32():
    # oneDNN computes the weight gradient of a one-channel 4^3 convolution from memory that was
    # never written; the last layer is therefore kept in float32
    torch.manual_seed(0)
    discriminator = Discriminator((16, 32, 64), norm=False, spectral=False)
    discriminator.to(memory_format=torch.channels_last_3d)
    x = torch.randn(4, 1, 28, 28, 28)
    gradients = []
    for enabled in (False, True, True):
        discriminator.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            scores = discriminator(x)
        scores.square().mean().backward()
        gradients.append([p.grad.clone() for p in discriminator.parameters() if p.dim() == 5])
    for exact, first, second in zip(*gradients, strict=True):
        assert torch.equal(first, second)
        assert (first - exact).norm() < 0.2 * exact.norm()
