"""Training of the residual network: texture and contrast are learned, the simulation is kept."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.physics.geometry import HALF_TURNS
from cryoetgan.translation.cyclegan import losses
from cryoetgan.translation.engine.distributed import ProcessGroup
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.presets import read_preset
from cryoetgan.translation.residual.networks import TONE_CURVE_LR_SCALE
from cryoetgan.translation.residual.scene_bank import (
    SceneBank,
    draw_classes,
    simulate_scene_bank,
    split_octants,
)
from cryoetgan.translation.residual.trainer import (
    GRADIENT_LIMIT,
    ResidualTrainer,
    signal_slope_terms,
)


def trainer_on(real, u, n, **changed):
    """Return a trainer on real volumes, signals and noises `(N, 1, z, y, x)`."""
    changed = {"width": 4, "blocks": 1, "batch": 8} | changed
    settings = read_preset("recommended").replace(**changed)
    scenes = SceneBank(u, n, u.half(), torch.zeros(len(u), dtype=torch.long))
    scalers = Scaler(0.0, 1.0), Scaler(0.0, 1.0, limit=math.inf)
    return ResidualTrainer(settings, scenes, real, scalers, HALF_TURNS, torch.device("cpu"), 0)


def test_a_grey_scale_that_the_simulation_lacks_is_learned():
    """Real volumes went through a tanh: the output reaches their kurtosis and keeps its pose."""
    torch.manual_seed(0)
    u = losses.lowpass(torch.randn(80, 1, 12, 12, 12), 2.0) * 6
    n = torch.randn(80, 1, 12, 12, 12)
    real = torch.tanh(u[40:] + n[40:])
    changed = {"steps": 80, "batch": 4, "diffusion_steps": 2, "filters": 4}
    trainer = trainer_on(real / real.std(), u[:40], n[:40], **changed)
    trainer.run(1)
    assert trainer.last["noise_ratio"] == pytest.approx(1)
    far = float(trainer.last["voxels"])
    trainer.run(80)
    assert float(trainer.last["voxels"]) < far / 4
    with torch.no_grad():
        made = trainer.average["G_ds"](u[:40], n[:40])

    def kurtosis(x):
        return float(((x - x.mean()) ** 4).mean() / x.var() ** 2)

    wanted, physics = kurtosis(real), kurtosis(u + n)
    assert abs(kurtosis(made) - wanted) < 0.25 * abs(physics - wanted)
    assert trainer.last["signal_cosine_distance"] < 0.1
    assert float(trainer.last["sd_ratio"]) == pytest.approx(1, abs=0.15)
    # all real volumes are draws of one process
    assert trainer.last["texture_held_out"] < 2 * trainer.last["texture_train"]


def test_a_correct_simulation_is_kept():
    torch.manual_seed(0)
    u, n = torch.randn(2, 60, 1, 12, 12, 12)
    u = losses.lowpass(u, 2.0) * 6
    trainer = trainer_on(u[30:] + n[30:], u[:30], n[:30], steps=60, diffusion_steps=2, filters=4)
    trainer.run(60)
    with torch.no_grad():
        made = trainer.average["G_ds"](u[:30], n[:30])
    assert float((made - u[:30] - n[:30]).std() / (u + n).std()) < 0.15


@pytest.mark.parametrize("flat", [0.5, pytest.param(0.8, marks=pytest.mark.slow)])
def test_the_contrast_compensates_for_flattening(flat):
    torch.manual_seed(0)
    u, n = torch.randn(40, 1, 12, 12, 12), torch.randn(40, 1, 12, 12, 12)
    small = {"lr_generator": 1e-9, "diffusion_steps": 1, "filters": 2, "contrast_rate": 0.1}
    trainer = trainer_on(u + n, u, n, steps=1000, **small)
    generator = trainer.networks["G_ds"]
    trainer.run(3)
    assert float(trainer.last["signal_slope"]) == pytest.approx(1, abs=1e-5)
    assert float(generator.log_contrast) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        generator.log_scale.fill_(math.log(flat) / TONE_CURVE_LR_SCALE)
    trainer.run(43)
    assert float(generator.log_contrast.exp()) == pytest.approx(1 / flat, rel=0.03)
    assert float(trainer.last["signal_slope"]) == pytest.approx(1, rel=0.03)
    # the noise is flattened as before
    with torch.no_grad():
        made = generator(u[:1], n[:1]) - generator(u[:1], -n[:1])
    assert torch.allclose(made / 2, flat * n[:1], atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.37, -0.0123])
def test_scenes_without_particles_keep_the_contrast(level):
    """Their signal is the level of empty ice: its rounding errors have no slope."""
    torch.manual_seed(0)
    u, n = torch.full((8, 1, 12, 12, 12), level), torch.randn(8, 1, 12, 12, 12)
    trainer = trainer_on(n, u, n, diffusion_steps=1, filters=2)
    with torch.no_grad():
        trainer.networks["G_ds"].bend += 0.05
    trainer.run(3)
    assert float(trainer.networks["G_ds"].log_contrast) == 0
    assert float(trainer.last["signal_slope"]) == 1


def test_micro_batches_keep_the_contrast_at_rate_0():
    torch.manual_seed(0)
    u, n = torch.randn(8, 1, 12, 12, 12), torch.randn(8, 1, 12, 12, 12)
    trainer = trainer_on(2 * (n + u), u, n, diffusion_steps=1, filters=2, contrast_rate=0.0)
    generate, room = trainer.generate, 2

    def generate_in_room(u, n):
        if len(u) > room:
            raise torch.OutOfMemoryError("no room")
        return generate(u, n)

    trainer.generate = generate_in_room
    trainer.run(3)
    assert trainer.micro_batches == 2
    assert float(trainer.networks["G_ds"].log_contrast) == 0


def test_the_slope_terms_give_the_regression_slope():
    torch.manual_seed(0)
    u, n, other = torch.randn(3, 4, 1, 8, 8, 8)
    plus, minus = 0.7 * u + n + 3, 0.7 * u - n + 3
    product, power = signal_slope_terms(torch.cat([plus, minus]), u + 5)
    assert float(product / power) == pytest.approx(0.7, abs=1e-4)
    product, power = signal_slope_terms(torch.cat([plus + other, minus + other]), u)
    slope = 0.7 + stats.linregress(u.flatten(), other.flatten()).slope
    assert float(product / power) == pytest.approx(slope, abs=5e-3)


def step_in_parts(parts, batch=8):
    """Return a trainer after one step in micro-batches."""
    torch.manual_seed(0)
    u, n = torch.randn(6, 1, 12, 12, 12), torch.randn(6, 1, 12, 12, 12)
    trainer = trainer_on(n + u, u, n, batch=batch, augment=False)
    with torch.no_grad():
        trainer.networks["G_ds"].bend += 0.05
    trainer.micro_batches = parts
    trainer.run(1)
    return trainer


def test_micro_batches_equal_the_batch():
    whole, parts = step_in_parts(1), step_in_parts(2)
    assert float(whole.last["cycle_d"]) == pytest.approx(float(parts.last["cycle_d"]), rel=1e-4)
    seen = [trainer.networks["spectrum"].seen for trainer in (whole, parts)]
    assert torch.allclose(*seen, atol=1e-4)
    slopes = [float(trainer.last["signal_slope"]) for trainer in (whole, parts)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-5)
    assert slopes[0] != pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("batch", "most"), [(8, 4), (10, 5), (1, 1)])
def test_a_batch_has_as_many_parts_as_scenes(batch, most):
    trainer = step_in_parts(most, batch)
    assert trainer.max_micro_batches() == most
    assert all(torch.isfinite(p).all() for p in trainer.networks.parameters())


class Pair(ProcessGroup):
    """One of two processes; the other is simulated."""

    def any(self, flag):
        return flag

    def average(self, tensors):
        self.averaged = True
        for tensor in tensors:
            if tensor.shape == (2,):  # slope terms: the other has half of the slope
                tensor += torch.stack([0.5 * tensor[1], tensor[1]])
            tensor *= 1000


def test_each_of_two_processes_generates_half_of_the_batch():
    torch.manual_seed(0)
    u, n = torch.randn(6, 1, 12, 12, 12), torch.randn(6, 1, 12, 12, 12)
    trainer = trainer_on(n + u, u, n)
    trainer.join(Pair(count=2))
    counts = []
    generate = trainer.generate
    trainer.generate = lambda u, n: counts.append(len(u)) or generate(u, n)
    trainer.run(1)
    assert counts == [2]
    assert trainer.processes.averaged
    assert float(trainer.last["signal_slope"]) == pytest.approx(0.75, abs=1e-3)
    # the mean gradient of all processes is shortened, not each one's own
    slopes = [p.grad.norm() for p in trainer.networks["G_ds"].parameters() if p.requires_grad]
    assert float(torch.stack(slopes).norm()) == pytest.approx(GRADIENT_LIMIT, rel=1e-3)


def test_scenes_follow_the_imaging_model(model, posed, rng):
    densities = read_volume_set(posed)
    made = simulate_scene_bank(densities, np.arange(12), [model], 24, "matched", 0)
    assert len(made) == 24
    assert torch.isfinite(made.signal).all()
    noise = np.std([model.noise((32, 32, 32), rng) for _ in range(4)])
    # in half precision, the unit near the noise keeps three digits of any grey scale
    assert float(made.noise.float().std()) == pytest.approx(1, rel=0.2)
    assert float(made.draw(24)[1].std()) == pytest.approx(float(noise), rel=0.1)
    again = simulate_scene_bank(densities, np.arange(12), [model], 24, "matched", 0)
    assert torch.equal(made.signal, again.signal)


def test_classes_have_the_fractions_of_the_picks_or_equal_ones(model, rng):
    names = draw_classes(model, ["a", "b"], "matched", rng, 3000)
    # the model has 0.7, 0.2 and 0.1 of `other`, which no density shows
    fractions = [names.count(name) / 3000 for name in ("a", "b")]
    assert fractions == pytest.approx([7 / 9, 2 / 9], abs=0.03)
    names = draw_classes(model, ["a", "b"], "uniform", rng, 3000)
    assert names.count("a") / 3000 == pytest.approx(0.5, abs=0.03)


def test_octants_split_a_noise_scene():
    parts = split_octants(np.arange(8**3, dtype=np.float32).reshape(8, 8, 8))
    assert sorted(np.concatenate([p.ravel() for p in parts])) == list(range(512))


def test_draws_keep_noise_with_its_model():
    which = torch.tensor([0, 0, 0, 1, 1])
    value = which.float().reshape(-1, 1, 1, 1, 1)
    scenes = SceneBank(value, value.clone(), value.half(), which)
    torch.manual_seed(0)
    u, n, d = scenes.draw(200)
    assert torch.equal(u, n)
    assert torch.equal(u, d)
    assert 0 < float(u.mean()) < 1
