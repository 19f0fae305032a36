"""Networks as the paper prints them, and the laws of their losses."""

import logging
import math
from dataclasses import replace

import pytest
import torch

from cryoetgan.translation.cyclegan import losses
from cryoetgan.translation.cyclegan.networks import (
    Discriminator,
    FirstConv3d,
    Generator,
    LastConv3d,
    SameConv3d,
    SameConvTranspose3d,
)
from cryoetgan.translation.cyclegan.trainer import Pool, Trainer, make_critic, make_generator
from cryoetgan.translation.engine.batches import Deck
from cryoetgan.translation.engine.scaling import fit_density, fit_scalers, fit_subtomogram
from cryoetgan.translation.engine.trainer import DivergedError, TooLargeError
from cryoetgan.translation.presets import known_presets, read_preset


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


@pytest.mark.parametrize(("box", "scores"), [(40, 3), (28, 2)])
def test_the_released_critic_leaves_a_map_of_scores(box, scores):
    released = replace(read_preset("released"), critic_widths=(4, 4, 4, 4))
    critic = make_critic(released)
    assert critic(torch.zeros(1, 1, box, box, box)).shape == (1, 1, scores, scores, scores)
    assert critic.smallest_box() <= box


def test_same_padding_is_tensorflows():
    # SAME pads (size - 1) // 2 * 2 + 3 - size voxels for 3^3 and stride 2: none before, one after
    torch.manual_seed(0)
    down, up = SameConv3d(1, 1, 3, stride=2), SameConvTranspose3d(1, 1, 3, stride=2, bias=False)
    x = torch.randn(1, 1, 8, 8, 8)
    wanted = torch.nn.functional.conv3d(
        torch.nn.functional.pad(x, [0, 1] * 3), down.weight, down.bias, stride=2
    )
    assert torch.equal(down(x), wanted)
    # <down(x), y> = <x, up(y)> with equal weights: one is the transpose of the other
    down.bias.data.zero_()
    up.weight.data.copy_(down.weight)
    y = torch.randn(1, 1, 4, 4, 4)
    assert (down(x) * y).sum().item() == pytest.approx((x * up(y)).sum().item(), rel=1e-4)
    generator = Generator((4, 4, 8), 1, padding="same")
    assert generator(torch.zeros(1, 1, 20, 20, 20)).shape == (1, 1, 20, 20, 20)


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
    assert losses.critic_loss("bce", zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.generator_loss("bce", zero).item() == pytest.approx(math.log(2))
    assert losses.critic_loss("wgan", one, zero).item() == -1
    assert losses.generator_loss("wgan", one).item() == -1
    assert losses.critic_loss("lsgan", one, zero).item() == 0
    assert losses.critic_loss("lsgan", 0.8 * one, zero, 0.8).item() == pytest.approx(0)
    assert losses.generator_loss("lsgan", zero, 0.8).item() == pytest.approx(0.64)
    assert losses.critic_loss("hinge", 2 * one, -2 * one).item() == 0
    assert losses.critic_loss("hinge", zero, zero).item() == 2


def test_losses_are_the_printed_formulas():
    torch.manual_seed(0)
    real, fake = torch.randn(50), torch.randn(50)
    critic, generator = losses.critic_loss, losses.generator_loss
    # equations 1 and 2, to be minimised: D is the sigmoid of a score
    wanted = -(torch.log(torch.sigmoid(real)).mean() + torch.log(1 - torch.sigmoid(fake)).mean())
    assert critic("bce", real, fake).item() == pytest.approx(wanted.item(), rel=1e-4)
    assert generator("bce", fake).item() == pytest.approx(
        -torch.log(torch.sigmoid(fake)).mean().item(), rel=1e-4
    )
    for kind in ("wgan", "wgan-gp"):  # the dual form of equation 4
        assert critic(kind, real, fake).item() == pytest.approx((fake.mean() - real.mean()).item())
    squares = 0.5 * (((real - 0.8) ** 2).mean() + (fake**2).mean())
    assert critic("lsgan", real, fake, 0.8).item() == pytest.approx(squares.item(), rel=1e-5)
    hinge = torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean()
    assert critic("hinge", real, fake).item() == pytest.approx(hinge.item(), rel=1e-5)
    with pytest.raises(ValueError, match="other"):
        critic("other", real, fake)


def test_the_full_objective_is_equation_5():
    trainer = still(spectral_norm=False, critic_norm="none", precision="float32", identity_weight=3)
    d, s = trainer._next("d"), trainer._next("s")
    found = trainer._generators_loss(d, s)
    net = trainer.networks
    made_s, made_d = net["G_ds"](d), net["G_sd"](s)
    wanted = losses.generator_loss("hinge", net["D_s"](made_s))
    wanted = wanted + losses.generator_loss("hinge", net["D_d"](made_d))
    set_ = trainer.settings
    back_d, back_s = net["G_sd"](made_s), net["G_ds"](made_d)
    smooth = [losses.lowpass(x, set_.cycle_lowpass) for x in (back_s, s)]
    cycle = (back_d - d).abs().mean() + (smooth[0] - smooth[1]).abs().mean()
    kept = losses.lowpass_cosine(made_s, d, set_.identity_lowpass)
    wanted = wanted + set_.cycle_weight * cycle + 3 * kept
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_lazy_penalty_is_worth_as_much_as_the_one_of_every_step():
    lazy, none = (still(r1_weight=w, r1_every=4, precision="float32") for w in (2.0, 0.0))
    d, s = lazy._next("d"), lazy._next("s")
    for step, times in ((0, 4), (1, 0)):
        lazy.step = none.step = step
        both = [float(t._critics_loss(s, d, s.flip(0), d.flip(0)).detach()) for t in (lazy, none)]
        wanted = sum(
            2.0 * times * float(losses.r1_penalty(none.networks[name], real).detach())
            for name, real in (("D_s", s), ("D_d", d))
        )
        assert both[0] - both[1] == pytest.approx(wanted, rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("kind", ["bce", "wgan", "wgan-gp", "lsgan", "hinge"])
def test_each_loss_pulls_scores_the_right_way(kind):
    real, fake = (torch.zeros(4, requires_grad=True) for _ in range(2))
    losses.critic_loss(kind, real, fake).backward()
    assert (real.grad < 0).all()  # a step down the gradient raises the real score
    assert (fake.grad >= 0).all()
    made = torch.full((4,), -0.5, requires_grad=True)
    losses.generator_loss(kind, made).backward()
    assert (made.grad < 0).all()


def test_penalties_of_a_linear_critic_are_known():
    weight = torch.randn(1, 1, 4, 4, 4)

    def critic(x):
        return (weight * x).flatten(1).sum(dim=1)

    real, fake = torch.randn(3, 1, 4, 4, 4), torch.randn(3, 1, 4, 4, 4)
    slope = weight.norm()  # over all voxels of a volume
    share = torch.rand(3, 1, 1, 1, 1)
    penalty = losses.gradient_penalty(critic, real, fake, share)
    assert penalty.item() == pytest.approx(float((slope - 1) ** 2), rel=1e-4)
    # the released code's: a norm for each line along the first axis
    lines = weight.square().sum(dim=2).sqrt()
    along = losses.gradient_penalty(critic, real, fake, share, "axis")
    assert along.item() == pytest.approx(float(((lines - 1) ** 2).mean()), rel=1e-4)
    assert losses.r1_penalty(critic, real).item() == pytest.approx(float(slope**2) / 2, rel=1e-4)


def test_the_cycle_of_an_identity_is_zero_and_lowpass_keeps_the_mean():
    x = torch.rand(2, 1, 24, 24, 24)
    assert losses.cycle_loss(x, x).item() == 0
    spot = torch.zeros(1, 1, 33, 33, 33)
    spot[0, 0, 16, 16, 16] = 1
    smooth = losses.lowpass(spot, 2.0)
    assert smooth.sum().item() == pytest.approx(1, abs=1e-5)
    z = torch.arange(33.0) - 16
    variance = (smooth.sum(dim=(0, 1, 3, 4)) * z**2).sum().item()
    assert variance == pytest.approx(4.0, rel=0.03)
    assert torch.equal(losses.lowpass(x, 0), x)


def test_the_cosine_ignores_contrast_and_level_and_sees_a_shift():
    torch.manual_seed(0)
    start = losses.lowpass(torch.randn(2, 1, 16, 16, 16), 1.0)
    assert float(losses.lowpass_cosine(5 * start + 3, start, 1.0)) == pytest.approx(0, abs=1e-5)
    assert float(losses.lowpass_cosine(-start, start, 1.0)) == pytest.approx(2, abs=1e-5)
    moved = torch.roll(start, 4, dims=-1)
    assert float(losses.lowpass_cosine(moved, start, 1.0)) > 0.5


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
    torch.manual_seed(5)  # the volumes are the same each time, whatever ran before
    return Trainer(
        replace(read_preset(name), **{**tiny, **changes}),
        torch.rand(6, 1, 16, 16, 16),
        torch.randn(6, 1, 16, 16, 16).clamp(-1, 1),
        torch.device("cpu"),
        0,
    )


def test_what_is_held_out_is_never_learnt_from_and_scored_as_what_is():
    trainer = small(held_out=0.34, objective="hinge")
    held, learnt = trainer.held, trainer.sets["s"].batch(torch.arange(len(trainer.sets["s"])))
    assert (len(held), len(learnt), trainer.real_count) == (2, 4, 4)
    assert not any(torch.equal(a, b) for a in held for b in learnt)
    trainer.run(9)
    trainer.probe()
    trainer.networks.eval()
    with torch.no_grad():
        for name, volumes in (("held", held), ("learnt", learnt[[0, -1]])):
            scores = trainer.networks["D_s"](volumes.to(trainer.device)).mean()
            assert float(trainer.last[f"D_s_{name}"]) == pytest.approx(float(scores), rel=1e-3)
    # of what nothing is held out, nothing is said, and the same is learnt as ever
    whole = small()
    whole.run(1)
    whole.probe()
    assert "noise_ratio" in whole.last
    assert "D_s_held" not in whole.last
    assert len(whole.sets["s"]) == 6


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
    still_too = {"input_noise": 0.0, "dropout": 0.0, "patch_weight": 0.0}
    return small(batch=4, noise_channels=0, **still_too, **changes)


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
    fresh = small(input_noise=0.5, input_noise_unit="std", input_noise_draw="step")
    d = fresh._next("d")
    one, other = fresh._noisy(d) - d, fresh._noisy(d) - d
    assert not torch.equal(one, other)
    spread = float(fresh.sets["d"].data.std())
    assert float(one.std()) == pytest.approx(0.5 * spread, rel=0.05)
    kept = {"input_noise_unit": "absolute", "input_noise_draw": "once"}
    fixed = []
    for sigma in (0.0, 0.5, 0.5):
        torch.manual_seed(1)  # the same densities
        fixed.append(small(input_noise=sigma, **kept))
    clean = fixed.pop(0)
    # it is in the domain already, the same each time, also in a run that resumes
    added = fixed[0].sets["d"].data - clean.sets["d"].data
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(fixed[0].sets["d"].data, fixed[1].sets["d"].data)
    d = fixed[0]._next("d")
    assert torch.equal(fixed[0]._noisy(d), d)
    assert any(torch.equal(d[0], volume) for volume in fixed[0].sets["d"].data)


def test_each_pass_deals_every_item_once_in_an_order_of_its_own():
    deck = Deck(7, 3, "s")
    dealt = torch.cat([deck.deal(n) for n in (1, 5, 4, 11)])
    laps = dealt.reshape(3, 7)
    assert all(sorted(lap.tolist()) == list(range(7)) for lap in laps)
    assert not torch.equal(laps[0], laps[1])
    later = Deck(7, 3, "s")
    later.dealt = 10
    assert torch.equal(later.deal(11), dealt[10:])
    assert not torch.equal(Deck(7, 3, "d").deal(7), laps[0])


def test_weights_that_are_no_numbers_and_losses_beyond_bounds_stop_a_run():
    trainer = small()
    trainer.run(1)
    trainer.check(weights=True)
    next(iter(trainer.networks["G_sd"].parameters())).data[0] = float("inf")
    trainer.check()  # the losses are still those of before
    with pytest.raises(DivergedError, match="weights are not finite at step 1"):
        trainer.check(weights=True)
    trainer.last["cycle_d"] = torch.tensor(-1e7)
    with pytest.raises(DivergedError, match="cycle_d is -1e"):
        trainer.check()


def test_the_probe_sees_ignored_noise_and_a_hidden_message_and_changes_nothing():
    trainer = small(noise_channels=4, noise_generators="ds", dropout=0.5)
    state = torch.get_rng_state()
    trainer.probe()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in trainer.networks.modules())
    assert 0.01 < trainer.numbers()["noise_ratio"] < 2
    # a pair that hides d in the fourth decimal of something else
    trainer.networks["G_ds"].forward = lambda d: d * 1e-3
    trainer.networks["G_sd"].forward = lambda s: s * 1e3 + 1e-3
    trainer.probe()
    assert trainer.numbers()["noise_ratio"] == 0
    assert trainer.numbers()["cycle_hidden"] > 1000


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_compiled_networks_train_as_they_are():
    found = []
    for compiled in (False, True):
        trainer = still(precision="float32", spectral_norm=False)
        names = list(trainer.networks.state_dict())
        if compiled:
            trainer._compile("aot_eager")
            assert list(trainer.networks.state_dict()) == names
        trainer.run(2)
        found.append(torch.cat([p.detach().flatten() for p in trainer.networks.parameters()]))
    assert torch.allclose(*found, atol=1e-4)


def test_dropout_of_the_released_code_falls_on_the_output():
    torch.manual_seed(0)
    generator = Generator((4, 4, 4), 1, dropout=0.5, dropout_on="output").train()
    x = torch.rand(1, 1, 16, 16, 16)
    made = generator(x)
    assert float((made == 0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_the_pool_shows_earlier_volumes_half_of_the_time():
    torch.manual_seed(0)
    pool, earlier = Pool(4), 0
    for value in range(400):
        shown = pool.swap(torch.full((1, 1, 2, 2, 2), float(value)))
        assert float(shown.max()) <= value
        if value < 4:
            assert shown.flatten()[0] == value
        earlier += int(shown.flatten()[0] != value)
    assert len(pool.kept) == 4
    assert 0.4 < earlier / 396 < 0.6
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


def test_every_switch_of_the_papers_table_is_a_key():
    # PAPER: item, key, what the released code has
    released = {
        "widths": (64, 128, 128), "blocks": 6, "bias": False, "res_norm": "none",
        "padding": "same", "noise_channels": 128, "noise_generators": "both", "output": "tanh",
        "critic_widths": (64, 128, 256, 512), "critic_stride": 2, "critic_norm": "instance",
        "spectral_norm": False, "objective": "lsgan", "real_label": 0.8, "clip": 0.0,
        "penalty_weight": 10.0, "penalty_norm": "axis", "optimiser": "rmsprop",
        "lr_generator": 2e-4, "decay_start": 1.0, "batch": 1, "epochs": 50.0, "n_critic": 1,
        "pool": 50, "cycle_weight": 100.0, "identity_weight": 0.0, "input_noise": 0.0,
        "input_noise_unit": "absolute", "input_noise_draw": "once", "scaling": "zscore",
        "dropout_on": "output",
    }  # fmt: skip
    settings = read_preset("released")
    assert {key: getattr(settings, key) for key in released} == released
    paper = {
        "widths": (32, 64, 128), "blocks": 5, "bias": True, "res_norm": "instance",
        "noise_channels": 1, "critic_widths": (64, 128, 256), "spectral_norm": True,
        "objective": "wgan", "clip": 0.01, "optimiser": "rmsprop", "lr_generator": 5e-4,
        "cycle_weight": 10.0, "identity_weight": 0.0, "input_noise": 0.2,
        "input_noise_unit": "std", "input_noise_draw": "step", "dropout": 0.1,
        "dropout_on": "blocks", "scaling": "domain",
    }  # fmt: skip
    settings = read_preset("paper")
    assert {key: getattr(settings, key) for key in paper} == paper


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
