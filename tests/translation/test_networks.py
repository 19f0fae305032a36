"""Networks as the paper prints them, and the laws of their losses."""

import logging
import math
from dataclasses import replace

import pytest
import torch

from cryoetgan.translation import objectives
from cryoetgan.translation.loop import TooLargeError
from cryoetgan.translation.networks import Discriminator, FirstConv3d, Generator, LastConv3d
from cryoetgan.translation.presets import known_presets, read_preset
from cryoetgan.translation.scaling import fit_density, fit_scalers, fit_subtomogram
from cryoetgan.translation.training import Pool, Trainer, make_critic, make_generator


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_papers_and_the_released_codes():
    assert count(Generator()) == 5_005_121
    assert count(Generator(blocks=6)) == 5_890_625
    assert count(Discriminator()) == 2_643_137
    released = read_preset("released")
    assert count(make_generator(released)) == 7_122_816
    assert count(make_critic(released)) == 11_048_705
    # spectral norm changes what a weight is called, not how many there are
    assert count(Discriminator(spectral=False)) == 2_643_137
    assert count(Generator((64, 128, 256), 9)) > count(Generator())


@pytest.mark.parametrize(("kind", "into", "out"), [(FirstConv3d, 1, 5), (LastConv3d, 5, 1)])
def test_the_outer_convolutions_are_the_librarys(kind, into, out):
    torch.manual_seed(0)
    ours, x = kind(into, out, 7), torch.randn(2, into, 12, 13, 14, requires_grad=True)
    made, wanted = ours(x), torch.nn.functional.conv3d(x, ours.weight, ours.bias)
    assert torch.allclose(made, wanted, atol=1e-5)
    weight = torch.randn_like(made)
    slopes = [
        torch.autograd.grad((y * weight).sum(), [x, ours.weight, ours.bias]) for y in (made, wanted)
    ]
    for one, other in zip(*slopes, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(("stride", "field"), [(2, 46), (1, 13)])
def test_the_receptive_field_is_what_a_score_sees(stride, field):
    critic = Discriminator((4, 4, 4), stride, norm=False, spectral=False)
    assert critic.receptive_field() == field
    volume = torch.zeros(1, 1, 64, 20, 20) if stride == 1 else torch.zeros(1, 1, 128, 32, 32)
    volume = torch.rand(volume.shape).requires_grad_()
    scores = critic(volume)
    middle = [n // 2 for n in scores.shape[2:]]
    scores[0, 0, middle[0], middle[1], middle[2]].backward()
    reached = volume.grad[0, 0].abs().amax(dim=(1, 2)) > 0
    where = torch.nonzero(reached).flatten()
    assert int(where.max() - where.min()) + 1 == field


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


def test_spectral_norm_holds():
    torch.manual_seed(0)
    critic = Discriminator((8, 16, 16)).train()
    for layer in critic.convolutions():
        layer.parametrizations.weight.original.data *= 50
    with torch.no_grad():
        for _ in range(60):
            critic(torch.rand(1, 1, 16, 16, 16))
        for layer in critic.eval().convolutions():
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert largest <= 1.01


def test_bfloat16_gradients_of_every_layer_agree_with_float32():
    # oneDNN computes the weight gradient of a one-channel 4^3 convolution from memory that was
    # never written; the last layer is therefore kept in float32
    torch.manual_seed(0)
    critic = Discriminator((16, 32, 64), norm=False, spectral=False)
    critic.to(memory_format=torch.channels_last_3d)
    x = torch.randn(4, 1, 28, 28, 28)
    gradients = []
    for enabled in (False, True, True):
        critic.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            scores = critic(x)
        scores.square().mean().backward()
        gradients.append([p.grad.clone() for p in critic.parameters() if p.dim() == 5])
    for exact, first, second in zip(*gradients, strict=True):
        assert torch.equal(first, second)
        assert (first - exact).norm() < 0.2 * exact.norm()


def test_losses_at_known_scores():
    zero, one = torch.zeros(3), torch.ones(3)
    # an undecided critic: equations 1 and 2 give 2 log 2
    assert objectives.critic_loss("bce", zero, zero).item() == pytest.approx(2 * math.log(2))
    assert objectives.generator_loss("bce", zero).item() == pytest.approx(math.log(2))
    assert objectives.critic_loss("wgan", one, zero).item() == -1
    assert objectives.generator_loss("wgan", one).item() == -1
    assert objectives.critic_loss("lsgan", one, zero).item() == 0
    assert objectives.critic_loss("lsgan", 0.8 * one, zero, 0.8).item() == pytest.approx(0)
    assert objectives.generator_loss("lsgan", zero, 0.8).item() == pytest.approx(0.64)
    assert objectives.critic_loss("hinge", 2 * one, -2 * one).item() == 0
    assert objectives.critic_loss("hinge", zero, zero).item() == 2


@pytest.mark.parametrize("kind", ["bce", "wgan", "wgan-gp", "lsgan", "hinge"])
def test_each_loss_pulls_scores_the_right_way(kind):
    real, fake = (torch.zeros(4, requires_grad=True) for _ in range(2))
    objectives.critic_loss(kind, real, fake).backward()
    assert (real.grad < 0).all()  # a step down the gradient raises the real score
    assert (fake.grad >= 0).all()
    made = torch.full((4,), -0.5, requires_grad=True)
    objectives.generator_loss(kind, made).backward()
    assert (made.grad < 0).all()


def test_penalties_of_a_linear_critic_are_known():
    weight = torch.randn(1, 1, 4, 4, 4)

    def critic(x):
        return (weight * x).flatten(1).sum(dim=1)

    real, fake = torch.randn(3, 1, 4, 4, 4), torch.randn(3, 1, 4, 4, 4)
    slope = weight.norm()  # over all voxels of a volume
    share = torch.rand(3, 1, 1, 1, 1)
    penalty = objectives.gradient_penalty(critic, real, fake, share)
    assert penalty.item() == pytest.approx(float((slope - 1) ** 2), rel=1e-4)
    # the released code's: a norm for each line along the first axis
    lines = weight.square().sum(dim=2).sqrt()
    along = objectives.gradient_penalty(critic, real, fake, share, "axis")
    assert along.item() == pytest.approx(float(((lines - 1) ** 2).mean()), rel=1e-4)
    assert objectives.r1_penalty(critic, real).item() == pytest.approx(
        float(slope**2) / 2, rel=1e-4
    )


def test_the_cycle_of_an_identity_is_zero_and_lowpass_keeps_the_mean():
    x = torch.rand(2, 1, 24, 24, 24)
    assert objectives.cycle_loss(x, x).item() == 0
    spot = torch.zeros(1, 1, 33, 33, 33)
    spot[0, 0, 16, 16, 16] = 1
    smooth = objectives.lowpass(spot, 2.0)
    assert smooth.sum().item() == pytest.approx(1, abs=1e-5)
    z = torch.arange(33.0) - 16
    variance = (smooth.sum(dim=(0, 1, 3, 4)) * z**2).sum().item()
    assert variance == pytest.approx(4.0, rel=0.03)
    assert torch.equal(objectives.lowpass(x, 0), x)


def test_the_cosine_ignores_contrast_and_level_and_sees_a_shift():
    torch.manual_seed(0)
    start = objectives.lowpass(torch.randn(2, 1, 16, 16, 16), 1.0)
    assert float(objectives.lowpass_cosine(5 * start + 3, start, 1.0)) == pytest.approx(0, abs=1e-5)
    assert float(objectives.lowpass_cosine(-start, start, 1.0)) == pytest.approx(2, abs=1e-5)
    moved = torch.roll(start, 4, dims=-1)
    assert float(objectives.lowpass_cosine(moved, start, 1.0)) > 0.5


def test_scaling_goes_there_and_back_one_scale_for_all():
    s = torch.randn(20, 1, 8, 8, 8) * 5 + 2
    scaler = fit_subtomogram(s, 3.0)
    inside = scaler.forward(s).abs() < 1
    assert torch.allclose(scaler.backward(scaler.forward(s))[inside], s[inside], atol=1e-5)
    assert scaler.forward(s).abs().max() == 1
    d = torch.rand(20, 1, 8, 8, 8)
    d[:10] *= 0.1  # light particles stay lighter
    scaled = fit_density(d).forward(d)
    assert scaled[:10].mean() < 0.2 * scaled[10:].mean()


def test_scaling_by_volume_forgets_mass_and_zscores_leave_the_range():
    d, s = torch.rand(6, 1, 8, 8, 8), torch.randn(6, 1, 8, 8, 8)
    s[:3] *= 5
    _, own = fit_scalers(d, s, "volume", 3.0)
    spread = own.forward(s).std(dim=(1, 2, 3, 4))
    assert spread.max() < 1.1 * spread.min()
    _, domain = fit_scalers(d, s, "domain", 3.0)
    assert domain.forward(s)[:3].std() > 3 * domain.forward(s)[3:].std()
    scaled = fit_scalers(d, s, "zscore", 3.0)[0].forward(d)
    assert (scaled.mean().abs() < 1e-4) & (scaled.std() - 1 < 1e-3)
    assert scaled.abs().max() > 1  # beyond what a tanh reaches


def small(name="smoke", **changes):
    """A trainer of small networks."""
    tiny = {"widths": (4, 4, 8), "blocks": 1, "critic_widths": (4, 4, 4), "batch": 2, "steps": 9}
    return Trainer(
        replace(read_preset(name), **{**tiny, **changes}),
        torch.rand(6, 1, 16, 16, 16),
        torch.randn(6, 1, 16, 16, 16).clamp(-1, 1),
        torch.device("cpu"),
        0,
    )


def test_the_averaged_generator_follows_its_decay():
    trainer = small(ema=0.5)
    trainer.step = 1000  # beyond the warm-up, in which it follows faster
    before = [p.clone() for p in trainer.average.parameters()]
    trainer.run(1001)
    new = trainer.networks["G_ds"].parameters()
    for mean, old, now in zip(trainer.average.parameters(), before, new, strict=True):
        assert torch.allclose(mean, 0.5 * old + 0.5 * now, atol=1e-6)
    trainer = small(ema=0.0)
    trainer.run(1)
    new = trainer.networks["G_ds"].parameters()
    assert all(torch.equal(a, b) for a, b in zip(trainer.average.parameters(), new, strict=True))


def test_the_critic_learns_n_times_a_step_and_rates_fall_to_zero():
    trainer = small(n_critic=3, decay_start=0.5, steps=4)
    calls = {"critics": 0, "generators": 0}
    for name, optimiser in trainer.optimisers.items():
        optimiser.register_step_post_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    rates = []
    trainer.run(4, lambda: rates.append(trainer.optimisers["critics"].param_groups[0]["lr"]))
    assert calls == {"critics": 12, "generators": 4}
    full = trainer.settings.lr_critic
    assert rates == pytest.approx([full, full, full, full / 2])


def still(**changes):
    """A trainer whose steps draw nothing but the batch."""
    return small(batch=4, noise_channels=0, input_noise=0.0, dropout=0.0, **changes)


def test_micro_batches_add_up_to_the_batch():
    torch.manual_seed(1)
    d, s, fake_d, fake_s = (torch.rand(4, 1, 16, 16, 16) for _ in range(4))
    found = []
    for parts in (1, 2, 4):
        # spectral norm iterates once a score, so more often in parts
        trainer = still(spectral_norm=False)
        trainer.parts = parts
        trainer._update_generators(d, s)
        slopes = [p.grad for n in ("G_ds", "G_sd") for p in trainer.networks[n].parameters()]
        trainer = still(spectral_norm=False)
        trainer.parts = parts
        trainer._update_critics(s, d, fake_s, fake_d)
        slopes += [p.grad for n in ("D_s", "D_d") for p in trainer.networks[n].parameters()]
        found.append(torch.cat([slope.flatten() for slope in slopes]))
    for other in found[1:]:
        # rounding turns the sign of an absolute error here and there; a wrong weight is a factor
        assert (other - found[0]).norm() < 0.02 * found[0].norm()


def test_out_of_memory_halves_the_batch_and_says_so(caplog):
    trainer = still()
    network = trainer.networks["G_ds"]
    forward, room = network.forward, 2

    def tight(x, noise=None):
        if len(x) > room:
            raise torch.OutOfMemoryError("no room")
        return forward(x, noise)

    network.forward = tight
    logging.getLogger("cryoetgan").propagate = True
    with caplog.at_level("WARNING", "cryoetgan"):
        trainer.run(2)
    assert trainer.parts == 2
    assert "batches of 4 go in 2 parts" in caplog.text
    room = 0
    with pytest.raises(TooLargeError, match="one volume"):
        trainer.run(3)
    assert trainer.step == 2


def test_input_noise_is_fresh_at_each_step_or_the_volumes_own():
    torch.manual_seed(0)
    fresh = small(input_noise=0.5, input_noise_unit="std", input_noise_draw="step")
    d = fresh.densities[:2]
    one, other = fresh._noisy(d) - d, fresh._noisy(d) - d
    assert not torch.equal(one, other)
    assert float(one.std()) == pytest.approx(0.5 * float(fresh.densities.std()), rel=0.05)
    fixed = small(input_noise=0.5, input_noise_unit="absolute", input_noise_draw="once")
    assert torch.equal(fixed._noisy(d), d)  # it is in the domain already
    seen = {}
    for _ in range(30):
        torch.manual_seed(len(seen))
        for volume in fixed._densities():
            base = (fixed.densities - volume).flatten(1).std(dim=1).argmin()
            seen.setdefault(int(base), []).append(volume)
    assert all(torch.equal(v, volumes[0]) for volumes in seen.values() for v in volumes)


def test_dropout_of_the_released_code_falls_on_the_output():
    torch.manual_seed(0)
    generator = Generator((4, 4, 4), 1, dropout=0.5, dropout_on="output").train()
    x = torch.rand(1, 1, 16, 16, 16)
    made = generator(x)
    assert float((made == 0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_the_pool_gives_back_earlier_volumes():
    torch.manual_seed(0)
    pool = Pool(4)
    for value in range(50):
        out = pool.swap(torch.full((1, 1, 2, 2, 2), float(value)))
        if value < 4:
            assert out.flatten()[0] == value
    earlier = [float(v.flatten()[0]) for v in pool.kept]
    assert len(earlier) == 4
    assert Pool(0).swap(torch.ones(2, 1, 2, 2, 2)).sum() == 16


def test_clipping_bounds_the_weights_that_are_free():
    settings = replace(read_preset("paper"), widths=(4, 4, 8), blocks=1, critic_widths=(4, 4, 4))
    trainer = Trainer(
        settings,
        torch.rand(4, 1, 16, 16, 16),
        torch.randn(4, 1, 16, 16, 16),
        torch.device("cpu"),
        0,
    )
    trainer.run(2)
    for name in ("D_s", "D_d"):
        for layer in trainer.networks[name].convolutions():
            assert layer.parametrizations.weight.original.abs().max() <= settings.clip


def test_every_preset_makes_its_networks():
    assert {"paper", "released", "recommended", "smoke"} <= set(known_presets())
    for name in known_presets():
        settings = read_preset(name)
        if settings.frame == "residual":
            continue
        assert count(make_generator(settings)) > 0
        assert make_critic(settings).smallest_box() <= 32
    paper = read_preset("paper")
    assert count(make_generator(paper)) == 5_005_121
    assert count(make_critic(paper)) == 2_643_137
