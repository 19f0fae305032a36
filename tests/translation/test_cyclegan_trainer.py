"""One step of the CycleGAN: replay pool, input noise, micro-batches, averages, diagnostics."""

import ast
import logging
import sys

import pytest
import torch

from cryoetgan.translation.cyclegan.losses import (
    BACKGROUND_RADIUS,
    background_mean,
    centre_shift,
)
from cryoetgan.translation.cyclegan.settings import CycleGANSettings
from cryoetgan.translation.cyclegan.trainer import ReplayPool
from cryoetgan.translation.engine.trainer import DivergedError, TooLargeError, Trainer
from tests.conftest import ROOT
from tests.translation.helpers import deterministic_trainer, small_trainer


def test_training_on_one_device_needs_torch_and_numpy_alone():
    # all modules of the package that the trainers import, and the libraries of these
    todo = ["cryoetgan.translation.cyclegan.trainer", "cryoetgan.translation.residual.trainer"]
    seen, outside = set(), set()
    while todo:
        name = todo.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name in seen or not path.exists():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text()).body:
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            todo += [word for word in found if word.startswith("cryoetgan.")]
            outside |= {word.split(".")[0] for word in found}
    assert {
        f"cryoetgan.translation.{name}" for name in ("engine.trainer", "cyclegan.losses")
    } <= seen
    assert outside - set(sys.stdlib_module_names) == {"cryoetgan", "numpy", "torch"}


def test_the_pool_shows_earlier_volumes_half_of_the_time():
    torch.manual_seed(0)
    pool, earlier = ReplayPool(4), 0
    for value in range(400):
        shown = pool.swap(torch.full((1, 1, 2, 2, 2), float(value)))
        assert float(shown.max()) <= value
        if value < 4:
            assert shown.flatten()[0] == value
        earlier += int(shown.flatten()[0] != value)
    assert len(pool.volumes) == 4
    assert 0.4 < earlier / 396 < 0.6
    assert ReplayPool(0).swap(torch.ones(2, 1, 2, 2, 2)).sum() == 16


def test_input_noise_is_new_at_each_step_or_fixed():
    fresh = small_trainer(input_noise=0.5, input_noise_unit="std", input_noise_draw="step")
    d = fresh.next_batch("d")
    one, other = fresh.add_input_noise(d) - d, fresh.add_input_noise(d) - d
    assert not torch.equal(one, other)
    spread = float(fresh.sets["d"].data.std())
    assert float(one.std()) == pytest.approx(0.5 * spread, rel=0.05)
    kept = {"input_noise_unit": "absolute", "input_noise_draw": "once"}
    fixed = []
    for sigma in (0.0, 0.5, 0.5):
        torch.manual_seed(1)  # the same densities
        fixed.append(small_trainer(input_noise=sigma, **kept))
    clean = fixed.pop(0)
    # part of the domain, the same each time, also in a resumed run
    added = fixed[0].sets["d"].data - clean.sets["d"].data
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(fixed[0].sets["d"].data, fixed[1].sets["d"].data)
    d = fixed[0].next_batch("d")
    assert torch.equal(fixed[0].add_input_noise(d), d)
    assert any(torch.equal(d[0], volume) for volume in fixed[0].sets["d"].data)


def test_discriminators_train_n_times_a_step_and_rates_fall_to_zero():
    trainer = small_trainer(discriminator_steps=3, decay_start=0.5, steps=4)
    calls = {"discriminators": 0, "generators": 0}
    for name, optimiser in trainer.optimisers.items():
        optimiser.register_step_post_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    rates = []
    trainer.run(4, lambda: rates.append(trainer.optimisers["discriminators"].param_groups[0]["lr"]))
    assert calls == {"discriminators": 12, "generators": 4}
    full = trainer.settings.lr_discriminator
    assert rates == pytest.approx([full, full, full, full / 2])


def test_the_averaged_generators_follow_their_decay():
    trainer = small_trainer(ema=0.5)
    trainer.step = 1000  # after the first steps, in which it follows faster
    before = [p.clone() for p in trainer.average.parameters()]
    trainer.run(1001)
    new = [p for name in ("G_ds", "G_sd") for p in trainer.networks[name].parameters()]
    for mean, old, now in zip(trainer.average.parameters(), before, new, strict=True):
        assert torch.allclose(mean, 0.5 * old + 0.5 * now, atol=1e-6)
    trainer = small_trainer(ema=0.0)
    trainer.run(1)
    new = [p for name in ("G_ds", "G_sd") for p in trainer.networks[name].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(trainer.average.parameters(), new, strict=True))


def test_micro_batches_add_up_to_the_batch():
    torch.manual_seed(1)
    d, s, fake_d, fake_s = (torch.rand(4, 1, 16, 16, 16) for _ in range(4))
    found = []
    for parts in (1, 2, 4):
        # spectral norm iterates once a score, so more often in parts
        trainer = deterministic_trainer(spectral_norm=False)
        trainer.micro_batches = parts
        trainer.update_generators(d, s)
        slopes = [p.grad for n in ("G_ds", "G_sd") for p in trainer.networks[n].parameters()]
        trainer = deterministic_trainer(spectral_norm=False)
        trainer.micro_batches = parts
        trainer.update_discriminators(s, d, fake_s, fake_d)
        slopes += [p.grad for n in ("D_s", "D_d") for p in trainer.networks[n].parameters()]
        found.append(torch.cat([slope.flatten() for slope in slopes]))
    for other in found[1:]:
        # rounding turns the sign of an absolute error here and there; a wrong weight is a factor
        assert (other - found[0]).norm() < 0.02 * found[0].norm()


def test_out_of_memory_halves_the_micro_batches(caplog):
    trainer = deterministic_trainer()
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
    assert trainer.micro_batches == 2
    assert "batches of 4 are computed in 2 parts" in caplog.text
    room = 0
    with pytest.raises(TooLargeError, match="one volume"):
        trainer.run(3)
    assert trainer.step == 2


def test_infinite_weights_and_large_losses_stop_a_run():
    trainer = small_trainer()
    trainer.run(1)
    trainer.check(weights=True)
    next(iter(trainer.networks["G_sd"].parameters())).data[0] = float("inf")
    trainer.check()  # the losses are still those of before
    with pytest.raises(DivergedError, match="weights are not finite at step 1"):
        trainer.check(weights=True)
    trainer.last["cycle_d"] = torch.tensor(-1e7)
    with pytest.raises(DivergedError, match="cycle_d is -1e"):
        trainer.check()


def test_diagnostic_ratios_do_not_stop_a_run():
    trainer = Trainer(CycleGANSettings(), torch.device("cpu"), 0)
    trainer.last = {"sd_ratio": torch.tensor(1e9), "noise_ratio": torch.tensor(torch.nan)}
    trainer.check()
    trainer.last["adversarial"] = torch.tensor(torch.nan)
    with pytest.raises(DivergedError, match="adversarial"):
        trainer.check()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_compiled_networks_train_alike():
    found = []
    for compiled in (False, True):
        trainer = deterministic_trainer(precision="float32", spectral_norm=False)
        names = list(trainer.networks.state_dict())
        if compiled:
            trainer.compile_networks("aot_eager")
            assert list(trainer.networks.state_dict()) == names
        trainer.run(2)
        found.append(torch.cat([p.detach().flatten() for p in trainer.networks.parameters()]))
    assert torch.allclose(*found, atol=1e-4)


def test_held_out_subtomograms_are_scored_and_not_trained_on():
    trainer = small_trainer(held_out=0.34, objective="hinge", precision="float32")
    held_out, train = trainer.held_out, trainer.sets["s"].batch(torch.arange(4))
    assert (len(held_out), len(trainer.sets["s"]), trainer.real_count) == (2, 4, 4)
    assert not any(torch.equal(a, b) for a in held_out for b in train)
    trainer.run(2)
    trainer.diagnose()
    trainer.networks.eval()
    with torch.no_grad():
        for name, volumes in (("held_out", held_out), ("train", train[[0, -1]])):
            scores = trainer.networks["D_s"](volumes.to(trainer.device)).mean()
            assert float(trainer.last[f"D_s_{name}"]) == pytest.approx(float(scores), rel=1e-3)


def test_without_held_out_subtomograms_there_is_no_score():
    trainer = small_trainer()
    trainer.diagnose()
    assert "noise_ratio" in trainer.last
    assert "D_s_held_out" not in trainer.last
    assert len(trainer.sets["s"]) == 6


def test_diagnostics_find_ignored_noise_and_a_hidden_message():
    trainer = small_trainer(noise_channels=4, noise_generators="ds", dropout=0.5)
    state = torch.get_rng_state()
    trainer.diagnose()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in trainer.networks.modules())
    assert 0.01 < trainer.numbers()["noise_ratio"] < 2
    # generators that hide d in the fourth decimal
    trainer.networks["G_ds"].forward = lambda d: d * 1e-3
    trainer.networks["G_sd"].forward = lambda s: s * 1e3 + 1e-3
    trainer.diagnose()
    assert trainer.numbers()["noise_ratio"] == 0
    assert trainer.numbers()["cycle_hidden"] > 1000


def test_diagnostics_find_a_way_back_without_contrast():
    trainer = small_trainer(generator="filters", noise_generators="ds")
    trainer.sets["s"].data = 3 * trainer.sets["d"].data
    for gain in (1.0, 0.05):
        # untrained, G_sd returns its input
        trainer.average["G_sd"].filters.data *= gain
        trainer.diagnose()
        assert trainer.numbers()["back_sd_ratio"] == pytest.approx(3 * gain, rel=0.1)


@pytest.fixture
def densities():
    rng = torch.Generator().manual_seed(1)
    return torch.nn.functional.avg_pool3d(torch.rand(6, 1, 20, 22, 24, generator=rng), 3, 1, 1)


def test_the_centre_shift_ignores_contrast_and_noise(densities):
    noise = torch.randn(densities.shape, generator=torch.Generator().manual_seed(2))
    for shift in ((0, 0, 0), (1, 0, -2), (-3, 2, 1)):
        moved = 0.3 * torch.roll(densities, shift, (-3, -2, -1)) + 0.02 * noise - 5
        length = sum(s**2 for s in shift) ** 0.5
        assert float(centre_shift(moved, densities)) == pytest.approx(length)


def test_the_background_lies_beyond_the_particle():
    volumes = torch.zeros(2, 1, 20, 20, 20)
    volumes[..., 6:15, 6:15, 6:15] = 7.0
    assert background_mean(volumes) == 0
    volumes[..., 0:4, 0:4, 0:4] = 2.0
    z, y, x = torch.meshgrid(*[torch.arange(20) - 10] * 3, indexing="ij")
    fraction = 64 / int((z**2 + y**2 + x**2 > (20 * BACKGROUND_RADIUS) ** 2).sum())
    assert float(background_mean(volumes)) == pytest.approx(2 * fraction)


def test_the_spectrum_term_counts_the_running_mean_once_a_step():
    trainer = small_trainer(spectrum_weight=1.0, generator="filters", filter_size=5)
    spectrum = trainer.networks["spectrum"]
    assert bool(spectrum.seen.isnan().all())
    trainer.run(1)
    first = spectrum.seen.clone()
    assert torch.equal(first, trainer.spectrum_deviation)
    assert float(trainer.last["spectrum"]) == pytest.approx(float(first.square().mean()), rel=1e-4)
    trainer.run(2)
    assert torch.allclose(spectrum.seen, 0.9 * first + 0.1 * trainer.spectrum_deviation, atol=1e-5)


def test_the_spectrum_is_of_all_parts_of_a_batch():
    trainer = small_trainer(spectrum_weight=1.0, generator="filters", filter_size=5, batch=4)
    trainer.micro_batches = 2
    parts = []
    spectrum = trainer.networks["spectrum"]
    spectrum.register_forward_hook(lambda *call: parts.append(call[2][1].clone()))
    trainer.train_step()
    assert len(parts) == 2
    assert not torch.allclose(*parts)
    assert torch.allclose(spectrum.seen, (parts[0] + parts[1]) / 2, atol=1e-6)
