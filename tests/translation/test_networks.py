"""The paper's networks: parameter counts, shapes, receptive fields, spectral norm."""

import pytest
import torch

from cryoetgan.translation import networks as public
from cryoetgan.translation.cyclegan.networks import Discriminator, Generator
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


@pytest.mark.parametrize(("stride", "field"), [(2, 46), (1, 13)])
def test_a_score_depends_on_its_receptive_field(stride, field):
    discriminator = Discriminator((4, 4, 4), stride, norm=False, spectral=False)
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
