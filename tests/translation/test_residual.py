"""Preset recommended: step 0 is fitted physics; what its networks see and its losses keep."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from cryoetgan.imaging.storage import save_model
from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.translation.cyclegan import losses
from cryoetgan.translation.engine.process_group import Team
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.presets import read_preset
from cryoetgan.translation.residual.networks import QUICK, ResidualGenerator, Stage
from cryoetgan.translation.residual.scene_bank import Scenes
from cryoetgan.translation.residual.scene_simulation import drawn_classes, make_scenes, octants
from cryoetgan.translation.residual.trainer import CLIP, ResidualTrainer, signal_sums
from tests.conftest import refused

TINY = """
frame: residual
stages: 2
filters: 4
width: 4
blocks: 1
optimiser: adam
batch: 4
steps: {steps}
scenes: 12
ema: 0.9
"""


def learnt(stages=2, filters=4):
    """A generator that changes what it is given."""
    generator = ResidualGenerator(stages, filters)
    with torch.no_grad():
        for stage in generator.stages:
            for part in (stage.linear, stage.bounded, stage.falling):
                part.uniform_(0.0, 0.1)
        generator.log_scale += 0.01
        generator.bend += torch.tensor([0.04, -0.02, 0.03])
    return generator


def test_step_zero_is_physics():
    u, n = torch.randn(2, 1, 12, 12, 12), torch.randn(2, 1, 12, 12, 12)
    assert torch.equal(ResidualGenerator()(u, n), u + n)


def test_what_is_signal_and_what_is_noise_it_cannot_know():
    torch.manual_seed(0)
    generator = learnt()
    generator.log_contrast.fill_(math.log(1.2))
    u, n, other = torch.randn(3, 1, 1, 10, 10, 10)
    made = generator(u, n)
    assert torch.allclose(generator(u + other, n - 1.2 * other), made, atol=1e-5)
    assert not torch.allclose(made, u + n, atol=0.1)


@pytest.mark.parametrize("stages", [1, 4])
def test_the_receptive_radius_is_what_counts_for_a_voxel(stages):
    torch.manual_seed(0)
    generator = learnt(stages)
    x = torch.randn(1, 1, 31, 7, 7, requires_grad=True)
    generator(x, torch.zeros_like(x))[0, 0, 15, 3, 3].backward()
    reached = torch.nonzero(x.grad[0, 0].abs().amax(dim=(1, 2)) > 0).flatten()
    radius = generator.radius()
    assert (int(reached.min()), int(reached.max())) == (15 - radius, 15 + radius)


def test_a_stage_is_a_step_down_the_energy_of_its_filters():
    """With a bounded influence on differences it is total variation that falls, at any noise."""
    torch.manual_seed(0)
    stage = Stage(3)
    with torch.no_grad():
        stage.kernels.zero_()
        for axis in range(3):
            place = [1, 1, 1]
            stage.kernels[axis, 0, 1, 1, 1] = -1
            place[axis] = 2
            stage.kernels[axis, 0][tuple(place)] = 1
        stage.bounded.fill_(0.05)
    stage.requires_grad_(False)
    x = torch.randn(1, 1, 16, 16, 16)
    before = [torch.diff(x, dim=axis).abs().mean() for axis in (2, 3, 4)]
    after = [torch.diff(stage(x), dim=axis).abs().mean() for axis in (2, 3, 4)]
    assert all(b < 0.95 * a for a, b in zip(before, after, strict=True))
    # nothing is made or lost where nothing reaches over the edge
    inside = torch.zeros(1, 1, 16, 16, 16)
    inside[..., 4:12, 4:12, 4:12] = x[..., 4:12, 4:12, 4:12]
    assert float(stage(inside).sum() - inside.sum()) == pytest.approx(0, abs=1e-3)


def test_the_label_cosine_drops_what_is_odd_in_the_noise_and_sees_a_shift():
    torch.manual_seed(0)
    u = losses.lowpass(torch.randn(2, 1, 16, 16, 16), 1.5)
    n = torch.randn_like(u)
    plus, minus = 3 * u + 5 * n + 1, 3 * u - 5 * n + 1
    assert float(losses.label_cosine((plus + minus) / 2, u)) == pytest.approx(0, abs=1e-5)
    assert float(losses.label_cosine(-u, u)) == pytest.approx(2, abs=1e-5)
    assert float(losses.label_cosine(torch.roll(u, 4, -1), u)) > 0.5
    # a scene without particles has no direction to keep: no loss to learn from
    flat = torch.zeros_like(u)
    made = u.clone().requires_grad_()
    losses.label_cosine(made, flat).backward()
    assert float(made.grad.abs().max()) == 0


def trainer_on(real, u, n, **changed):
    changed = {"width": 4, "blocks": 1, "batch": 8} | changed
    settings = replace(read_preset("recommended"), **changed)
    stock = Scenes(u, n, u.half(), torch.zeros(len(u), dtype=torch.long))
    scalers = Scaler(0.0, 1.0), Scaler(0.0, 1.0, bounded=False)
    return ResidualTrainer(settings, stock, real, scalers, True, torch.device("cpu"), 0)


def test_a_grey_scale_and_a_contrast_that_physics_lacks_are_learnt():
    """Real volumes are bent by a tanh: what is made comes to their kurtosis, pose kept."""
    torch.manual_seed(0)
    u = losses.lowpass(torch.randn(80, 1, 12, 12, 12), 2.0) * 6
    n = torch.randn(80, 1, 12, 12, 12)
    real = torch.tanh(u[40:] + n[40:])
    trainer = trainer_on(real / real.std(), u[:40], n[:40], steps=80, stages=2, filters=4)
    trainer.run(1)
    assert trainer.last["noise_ratio"] == pytest.approx(1)
    far = float(trainer.last["voxels"])
    trainer.run(80)
    assert float(trainer.last["voxels"]) < far / 4
    with torch.no_grad():
        made = trainer.average(u[:40], n[:40])

    def kurtosis(x):
        return float(((x - x.mean()) ** 4).mean() / x.var() ** 2)

    wanted, physics = kurtosis(real), kurtosis(u + n)
    assert abs(kurtosis(made) - wanted) < 0.25 * abs(physics - wanted)
    assert trainer.last["label"] < 0.1
    assert float(trainer.last["sd_ratio"]) == pytest.approx(1, abs=0.15)
    # the real volumes are draws of one process: held ones are no farther away than learnt ones
    assert trainer.last["texture_held"] < 2 * trainer.last["texture_learnt"]


def test_where_physics_is_right_it_stays():
    torch.manual_seed(0)
    u, n = torch.randn(2, 60, 1, 12, 12, 12)
    u = losses.lowpass(u, 2.0) * 6
    trainer = trainer_on(u[30:] + n[30:], u[:30], n[:30], steps=60, stages=2, filters=4)
    trainer.run(60)
    with torch.no_grad():
        made = trainer.average(u[:30], n[:30])
    assert float((made - u[:30] - n[:30]).std() / (u + n).std()) < 0.15


@pytest.mark.parametrize("flat", [0.5, 0.8])
def test_the_contrast_makes_up_for_what_the_network_flattens(flat):
    torch.manual_seed(0)
    u, n = torch.randn(40, 1, 12, 12, 12), torch.randn(40, 1, 12, 12, 12)
    trainer = trainer_on(u + n, u, n, steps=1000, lr_generator=1e-9, stages=1, filters=2)
    generator = trainer.networks["G_ds"]
    trainer.run(3)
    # what is physics stays physics
    assert float(trainer.last["signal_slope"]) == pytest.approx(1, abs=1e-5)
    assert float(generator.log_contrast) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        generator.log_scale.fill_(math.log(flat) / QUICK)
    trainer.run(203)
    assert float(generator.log_contrast.exp()) == pytest.approx(1 / flat, rel=0.03)
    assert float(trainer.last["signal_slope"]) == pytest.approx(1, rel=0.03)
    # the rest of the volume is left as it was
    with torch.no_grad():
        made = generator(u[:1], n[:1]) - generator(u[:1], -n[:1])
    assert torch.allclose(made / 2, flat * n[:1], atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.37, -0.0123])
def test_scenes_without_particles_leave_the_contrast_alone(level):
    """They are no zeros but the level of empty ice; of rounding no slope is asked for."""
    torch.manual_seed(0)
    u, n = torch.full((8, 1, 12, 12, 12), level), torch.randn(8, 1, 12, 12, 12)
    trainer = trainer_on(n, u, n, stages=1, filters=2)
    with torch.no_grad():
        trainer.networks["G_ds"].bend += 0.05
    trainer.run(3)
    assert float(trainer.networks["G_ds"].log_contrast) == 0
    assert float(trainer.last["signal_slope"]) == 1


def test_without_room_the_contrast_is_still_not_learnt():
    torch.manual_seed(0)
    u, n = torch.randn(8, 1, 12, 12, 12), torch.randn(8, 1, 12, 12, 12)
    trainer = trainer_on(2 * (n + u), u, n, stages=1, filters=2, contrast_rate=0.0)
    make, room = trainer._made, 2

    def tight(*halves):
        if len(halves[0]) > room:
            raise torch.OutOfMemoryError("no room")
        return make(*halves)

    trainer._made = tight
    trainer.run(3)
    assert trainer.parts == 2
    assert float(trainer.networks["G_ds"].log_contrast) == 0


def test_the_signals_sums_give_the_slope_of_its_regression():
    torch.manual_seed(0)
    u, n, other = torch.randn(3, 4, 1, 8, 8, 8)
    plus, minus = 0.7 * u + n + 3, 0.7 * u - n + 3
    product, power = signal_sums(torch.cat([plus, minus]), u + 5)
    assert float(product / power) == pytest.approx(0.7, abs=1e-4)
    product, power = signal_sums(torch.cat([plus + other, minus + other]), u)
    slope = 0.7 + stats.linregress(u.flatten(), other.flatten()).slope
    assert float(product / power) == pytest.approx(slope, abs=5e-3)


def moved_by(parts, batch=8):
    torch.manual_seed(0)
    u, n = torch.randn(6, 1, 12, 12, 12), torch.randn(6, 1, 12, 12, 12)
    trainer = trainer_on(n + u, u, n, batch=batch, augment=False)
    with torch.no_grad():
        trainer.networks["G_ds"].bend += 0.05
    trainer.parts = parts
    trainer.run(1)
    return trainer


def test_in_parts_the_way_back_and_the_spectrum_see_what_the_whole_sees():
    whole, halves = moved_by(1), moved_by(2)
    assert float(whole.last["cycle_d"]) == pytest.approx(float(halves.last["cycle_d"]), rel=1e-4)
    seen = [trainer.networks["spectrum"].seen for trainer in (whole, halves)]
    assert torch.allclose(*seen, atol=1e-4)
    slopes = [float(trainer.last["signal_slope"]) for trainer in (whole, halves)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-5)
    assert slopes[0] != pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("batch", "most"), [(8, 4), (10, 5), (1, 1)])
def test_a_step_goes_in_as_many_parts_as_it_has_scenes(batch, most):
    trainer = moved_by(most, batch)
    assert trainer.most_parts() == most
    assert all(torch.isfinite(p).all() for p in trainer.networks.parameters())


class Pair(Team):
    """Two processes, of which only this one is there."""

    count = 2

    def average(self, tensors):
        self.averaged = True
        for tensor in tensors:
            if tensor.shape == (2,):  # the sums: in the other, half of the signal was left
                tensor += torch.stack([0.5 * tensor[1], tensor[1]])
            tensor *= 1000


def test_of_two_processes_each_makes_half_of_the_batch():
    torch.manual_seed(0)
    u, n = torch.randn(6, 1, 12, 12, 12), torch.randn(6, 1, 12, 12, 12)
    trainer = trainer_on(n + u, u, n)
    trainer.join(Pair())
    made = []
    make = trainer._made
    trainer._made = lambda *halves: made.append(len(halves[0])) or make(*halves)
    trainer.run(1)
    assert made == [2]
    assert trainer.team.averaged
    assert float(trainer.last["signal_slope"]) == pytest.approx(0.75, abs=1e-3)
    # what is shortened is the mean of all, not each one's own
    slopes = [p.grad.norm() for p in trainer.networks["G_ds"].parameters() if p.requires_grad]
    assert float(torch.stack(slopes).norm()) == pytest.approx(CLIP, rel=1e-3)


def test_scenes_are_the_imaging_models(model, posed, rng):
    densities = read_volume_set(posed)
    made = make_scenes(densities, np.arange(12), [model], 24, "matched", 0)
    assert len(made) == 24
    assert torch.isfinite(made.signal).all()
    noise = np.std([model.noise((32, 32, 32), rng) for _ in range(4)])
    assert float(made.noise.std()) == pytest.approx(float(noise), rel=0.1)
    again = make_scenes(densities, np.arange(12), [model], 24, "matched", 0)
    assert torch.equal(made.signal, again.signal)
    names = drawn_classes(model, ["a", "b"], "matched", rng, 3000)
    shares = [names.count(name) / 3000 for name in ("a", "b", "empty")]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    names = drawn_classes(model, ["a", "b"], "uniform", rng, 3000)
    assert names.count("a") / 3000 == pytest.approx(0.5, abs=0.03)
    assert "empty" not in names
    parts = octants(np.arange(8**3, dtype=np.float32).reshape(8, 8, 8))
    assert sorted(np.concatenate([p.ravel() for p in parts])) == list(range(512))


def test_draws_keep_noise_with_its_model():
    which = torch.tensor([0, 0, 0, 1, 1])
    value = which.float().reshape(-1, 1, 1, 1, 1)
    stock = Scenes(value, value.clone(), value.half(), which)
    torch.manual_seed(0)
    u, n, d = stock.draw(200)
    assert torch.equal(u, n)
    assert torch.equal(u, d)
    assert 0 < float(u.mean()) < 1


@pytest.fixture
def trained(here, tmp_path, model, posed, rng):
    """A trained checkpoint, and the words that train it."""
    save_model(model, tmp_path / "M.json")
    densities = read_volume_set(posed)
    noise = rng.standard_normal((12, 16, 16, 16)).astype(np.float32)
    write_volume_set(
        tmp_path / "s.star", noise, densities.table.assign(cryoetganSource="real"), 10.0
    )
    (tmp_path / "p.yaml").write_text(TINY.format(steps=6))
    words = (
        "translation", "train", "--densities", "d.star", "--subtomograms", "s.star",
        "--preset", "./p.yaml", "--imaging", "M.json",
    )  # fmt: skip
    here(*words, "-o", "t")
    return words


def test_from_densities_and_checkpoint_alone(here, tmp_path, trained):
    here("imaging", "simulate", "d.star", "--model", "M.json", "-o", "physics.star")
    for name in ("M.json", "M.npz"):
        (tmp_path / name).unlink()
    words = ("translation", "translate", "t/checkpoint.pt")
    here(*words, "d.star", "--snapshot", 0, "-o", "zero.star")
    physics, zero = (read_volume_set(tmp_path / f"{n}.star") for n in ("physics", "zero"))
    assert np.allclose(physics.volumes, zero.volumes, atol=1e-4)
    assert list(zero.table["cryoetganClass"]) == ["a", "b"] * 6
    assert zero.optics["rlnOpticsGroupName"][0] == "t1"
    here(*words, "d.star", "--draws", 2, "-o", "made.star")
    made = read_volume_set(tmp_path / "made.star").volumes
    assert not np.allclose(made[::2], zero.volumes, atol=1e-3)
    assert not np.allclose(made[::2], made[1::2], atol=0.1)
    here(*words, "made.star", "--direction", "sd", "-o", "back.star")
    back = read_volume_set(tmp_path / "back.star")
    assert set(back.table["cryoetganSource"]) == {"density"}
    here("translation", "uncertainty", "t/checkpoint.pt", "d.star", "--passes", 3, "-o", "u")
    spread = read_volume_set(tmp_path / "u" / "noise_sd.star").volumes
    assert spread.mean() == pytest.approx(made.std(), rel=0.5)
    assert read_volume_set(tmp_path / "u" / "dropout_sd.star").volumes.max() == 0


def test_a_map_of_uncertainty_is_of_the_look_that_its_volume_is_of(here, tmp_path, model, trained):
    save_model(replace(model, tomogram="other"), tmp_path / "N.json")
    here(*trained, "--imaging", "N.json", "-o", "two")
    here("translation", "translate", "two/checkpoint.pt", "d.star", "-o", "made.star")
    here("translation", "uncertainty", "two/checkpoint.pt", "d.star", "--passes", 2, "-o", "v")
    made, spreads = (read_volume_set(tmp_path / n) for n in ("made.star", "v/noise_sd.star"))
    assert set(made.table["rlnOpticsGroup"]) == {1, 2}
    assert list(spreads.table["rlnOpticsGroup"]) == list(made.table["rlnOpticsGroup"])
    assert list(spreads.optics["rlnOpticsGroupName"]) == [model.tomogram, "other"]


def test_a_run_goes_on_to_the_bits_of_an_unbroken_one(here, tmp_path, trained):
    here(*trained, "--steps", 9, "-o", "t")
    here(*trained, "--steps", 9, "-o", "whole")
    first, second = (
        torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("t", "whole")
    )
    assert first["step"] == second["step"] == 9
    for name, value in first["networks"].items():
        assert torch.equal(value, second["networks"][name])
    assert first["imaging"][0]["content"] == second["imaging"][0]["content"]


def test_a_checkpoint_of_before_there_was_a_contrast_is_read(here, tmp_path, trained):
    words = ("translation", "translate", "t/checkpoint.pt", "d.star", "-o")
    here(*words, "new.star")
    path = tmp_path / "t" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    assert float(content["average"].pop("log_contrast")) == 0
    assert content["settings"].pop("contrast_rate") == 0
    torch.save(content, path)
    here(*words, "old.star")
    assert (tmp_path / "old.mrcs").read_bytes() == (tmp_path / "new.mrcs").read_bytes()


def test_it_refuses_what_it_cannot_stand_on(here, tmp_path, trained):
    refused(here(*trained[:-2], "-o", "x", code=2), "--imaging", "imaging fit")


def test_a_tomogram_is_made_with_labels_and_truth(here, tmp_path, trained, rng):
    from cryoetgan.io.mrc import read_volume, write_volume
    from cryoetgan.io.star import read_star, write_star

    scene = rng.random((20, 24, 28)).astype(np.float32)
    write_volume(tmp_path / "scene.mrc", scene, 10.0)
    marks = rng.integers(0, 3, scene.shape).astype(np.int8)
    write_volume(tmp_path / "marks.mrc", marks, 10.0)
    import pandas as pd

    truth = pd.DataFrame(
        {"rlnCoordinateX": [3.5], "rlnCoordinateY": [4.0], "rlnCoordinateZ": [5.0],
         "cryoetganClass": ["a"]}
    )  # fmt: skip
    write_star(tmp_path / "truth.star", truth)
    words = ("translation", "synthesize", "t/checkpoint.pt", "scene.mrc")
    here(*words, "--labels", "marks.mrc", "--particles", "truth.star", "-o", "T.mrc")
    here(*words, "--tile", 10, "-o", "tiled/T.mrc")
    here(*words, "-o", "S.mrc")
    made, other = (read_volume(tmp_path / n).data for n in ("T.mrc", "tiled/T.mrc"))
    # each tomogram has its own noise
    assert np.abs(made - read_volume(tmp_path / "S.mrc").data).max() > made.std()
    assert made.shape == scene.shape
    assert np.abs(made - other).max() < 1e-4 * made.std()
    assert np.array_equal(read_volume(tmp_path / "T_labels.mrc").data, marks)
    row = read_star(tmp_path / "T.star").particles.iloc[0]
    assert (row["rlnTomoName"], row["cryoetganClass"], row["rlnCoordinateX"]) == ("T", "a", 3.5)
    assert row["cryoetganSource"] == "generated"
    # copick takes it with the names its labels had
    copick = pytest.importorskip("copick")
    write_json(sidecar(tmp_path / "marks.mrc"), {"labels": {"1": "a", "2": "b_c"}})
    here(*words, "--labels", "marks.mrc", "--particles", "truth.star", "-o", "T.mrc")
    beside = ("--labels", "T_labels.mrc", "--particles", "T.star", "--contrast", "bright")
    here("export", "copick", "T.mrc", *beside, "-o", "project")
    root = copick.from_file(str(tmp_path / "project/config.json"))
    run = root.get_run("T")
    (stored,) = run.get_voxel_spacing(10.0).tomograms
    assert np.allclose(stored.numpy(), made, atol=1e-3)
    numbers = {item.name: item.label for item in root.pickable_objects}
    (segmentation,) = run.get_segmentations()
    for number, name in ((1, "a"), (2, "b-c")):
        assert np.array_equal(segmentation.numpy() == numbers[name], marks == number)
    points, _ = run.get_picks("a")[0].numpy()
    assert points[0, 0] == pytest.approx(35.0)
    write_volume(tmp_path / "marks.mrc", marks[1:], 10.0)
    done = here(*words, "--labels", "marks.mrc", "-o", "X.mrc", code=2)
    refused(done, "cover")
    assert not (tmp_path / "X.mrc").exists()
