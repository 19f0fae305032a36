"""The paper's losses against their printed formulas, and the variants of the presets."""

import math

import pytest
import torch

from cryoetgan.translation.cyclegan import losses
from cryoetgan.translation.cyclegan.networks import Discriminator
from tests.translation.helpers import deterministic_trainer, small_trainer


def test_losses_at_known_scores():
    zero, one = torch.zeros(3), torch.ones(3)
    # an undecided discriminator: Paper, eq. 1 and 2 give 2 log 2
    assert losses.discriminator_loss("bce", zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.generator_loss("bce", zero).item() == pytest.approx(math.log(2))
    assert losses.discriminator_loss("wgan", one, zero).item() == -1
    assert losses.generator_loss("wgan", one).item() == -1
    assert losses.discriminator_loss("lsgan", one, zero).item() == 0
    assert losses.discriminator_loss("lsgan", 0.8 * one, zero, 0.8).item() == pytest.approx(0)
    assert losses.generator_loss("lsgan", zero, 0.8).item() == pytest.approx(0.64)
    assert losses.discriminator_loss("hinge", 2 * one, -2 * one).item() == 0
    assert losses.discriminator_loss("hinge", zero, zero).item() == 2


def test_losses_are_the_printed_formulas():
    torch.manual_seed(0)
    real, fake = torch.randn(50), torch.randn(50)
    discriminator, generator = losses.discriminator_loss, losses.generator_loss
    # Paper, eq. 1 and 2, to be minimised: D is the sigmoid of a score
    wanted = -(torch.log(torch.sigmoid(real)).mean() + torch.log(1 - torch.sigmoid(fake)).mean())
    assert discriminator("bce", real, fake).item() == pytest.approx(wanted.item(), rel=1e-4)
    assert generator("bce", fake).item() == pytest.approx(
        -torch.log(torch.sigmoid(fake)).mean().item(), rel=1e-4
    )
    for kind in ("wgan", "wgan-gp"):  # the dual form of Paper, eq. 4
        assert discriminator(kind, real, fake).item() == pytest.approx(
            (fake.mean() - real.mean()).item()
        )
    squares = 0.5 * (((real - 0.8) ** 2).mean() + (fake**2).mean())
    assert discriminator("lsgan", real, fake, 0.8).item() == pytest.approx(squares.item(), rel=1e-5)
    hinge = torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean()
    assert discriminator("hinge", real, fake).item() == pytest.approx(hinge.item(), rel=1e-5)
    with pytest.raises(ValueError, match="other"):
        discriminator("other", real, fake)


def test_the_cycle_loss_is_equation_3():
    d, s, cycled_d, cycled_s = torch.rand(4, 2, 1, 6, 6, 6)
    wanted = (cycled_d - d).abs().mean() + (cycled_s - s).abs().mean()
    assert losses.cycle_loss(d, cycled_d, s, cycled_s).item() == pytest.approx(wanted.item())
    assert losses.cycle_loss(d, d, s, s).item() == 0


def test_the_full_objective_is_equation_5():
    trainer = deterministic_trainer(
        spectral_norm=False, discriminator_norm="none", precision="float32", identity_weight=3,
        batch=2,
    )  # fmt: skip
    d, s = trainer.next_batch("d"), trainer.next_batch("s")
    found = trainer.generators_loss(d, s)
    net = trainer.networks
    made_s, made_d = net["G_ds"](d), net["G_sd"](s)
    wanted = losses.generator_loss("hinge", net["D_s"](made_s))
    wanted = wanted + losses.generator_loss("hinge", net["D_d"](made_d))
    set_ = trainer.settings
    back_d, back_s = net["G_sd"](made_s), net["G_ds"](made_d)
    smooth = [losses.lowpass(x, set_.cycle_lowpass) for x in (back_s, s)]
    cycle = (back_d - d).abs().mean() + (smooth[0] - smooth[1]).abs().mean()
    kept = losses.identity_cosine(made_s, d, set_.identity_lowpass)
    wanted = wanted + set_.cycle_weight * cycle + 3 * kept
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["bce", "wgan", "wgan-gp", "lsgan", "hinge"])
def test_each_loss_moves_scores_the_right_way(kind):
    real, fake = (torch.zeros(4, requires_grad=True) for _ in range(2))
    losses.discriminator_loss(kind, real, fake).backward()
    assert (real.grad < 0).all()  # a step down the gradient raises the real score
    assert (fake.grad >= 0).all()
    made = torch.full((4,), -0.5, requires_grad=True)
    losses.generator_loss(kind, made).backward()
    assert (made.grad < 0).all()


def test_penalties_of_a_linear_discriminator_are_known():
    weight = torch.randn(1, 1, 4, 4, 4)

    def discriminator(x):
        return (weight * x).flatten(1).sum(dim=1)

    real, fake = torch.randn(3, 1, 4, 4, 4), torch.randn(3, 1, 4, 4, 4)
    slope = weight.norm()  # over all voxels of a volume
    share = torch.rand(3, 1, 1, 1, 1)
    penalty = losses.gradient_penalty(discriminator, real, fake, share)
    assert penalty.item() == pytest.approx(float((slope - 1) ** 2), rel=1e-4)
    # the released code's: a norm for each line along the first axis
    lines = weight.square().sum(dim=2).sqrt()
    along = losses.gradient_penalty(discriminator, real, fake, share, "axis")
    assert along.item() == pytest.approx(float(((lines - 1) ** 2).mean()), rel=1e-4)
    assert losses.r1_penalty(discriminator, real).item() == pytest.approx(
        float(slope**2) / 2, rel=1e-4
    )


def test_a_lazy_penalty_weighs_as_much_as_one_at_every_step():
    lazy, none = (
        deterministic_trainer(r1_weight=w, r1_every=4, precision="float32") for w in (2.0, 0.0)
    )
    d, s = lazy.next_batch("d"), lazy.next_batch("s")
    for step, times in ((0, 4), (1, 0)):
        lazy.step = none.step = step
        both = [
            float(t.discriminators_loss(s, d, s.flip(0), d.flip(0)).detach()) for t in (lazy, none)
        ]
        wanted = sum(
            2.0 * times * float(losses.r1_penalty(none.networks[name], real).detach())
            for name, real in (("D_s", s), ("D_d", d))
        )
        assert both[0] - both[1] == pytest.approx(wanted, rel=1e-2, abs=1e-5)


def test_clipping_bounds_the_trained_weights():
    discriminator = Discriminator((4, 4, 4))
    losses.clip_weights(discriminator, 0.01)
    for layer in discriminator.convolutions():
        assert layer.parametrizations.weight.original.abs().max() <= 0.01
    trainer = small_trainer("paper")
    trainer.run(1)
    for layer in trainer.networks["D_s"].convolutions():
        assert layer.parametrizations.weight.original.abs().max() <= trainer.settings.clip


def test_the_lowpass_keeps_the_mean_and_has_its_width():
    spot = torch.zeros(1, 1, 33, 33, 33)
    spot[0, 0, 16, 16, 16] = 1
    smooth = losses.lowpass(spot, 2.0)
    assert smooth.sum().item() == pytest.approx(1, abs=1e-5)
    z = torch.arange(33.0) - 16
    variance = (smooth.sum(dim=(0, 1, 3, 4)) * z**2).sum().item()
    assert variance == pytest.approx(4.0, rel=0.03)
    assert torch.equal(losses.lowpass(spot, 0), spot)


def test_the_identity_cosine_depends_on_position_alone():
    torch.manual_seed(0)
    start = losses.lowpass(torch.randn(2, 1, 16, 16, 16), 1.0)
    assert float(losses.identity_cosine(5 * start + 3, start, 1.0)) == pytest.approx(0, abs=1e-5)
    assert float(losses.identity_cosine(-start, start, 1.0)) == pytest.approx(2, abs=1e-5)
    moved = torch.roll(start, 4, dims=-1)
    assert float(losses.identity_cosine(moved, start, 1.0)) > 0.5
