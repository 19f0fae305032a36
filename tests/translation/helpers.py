"""Tiny presets, trainers and checkpoints of the stage's tests."""

import torch

from cryoetgan.devices import choose_device
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.translation.cyclegan.trainer import CycleGANTrainer
from cryoetgan.translation.presets import read_preset
from cryoetgan.translation.residual.networks import ResidualGenerator
from cryoetgan.translation.train import TrainingInputs, train

PRESET = """
widths: [4, 4, 8]
blocks: 1
discriminator_widths: [4, 4, 4]
discriminator_norm: none
objective: hinge
clip: 0.0
optimiser: adam
noise_channels: 2
batch: 2
steps: {steps}
replay_pool: 3
ema: 0.9
dropout: 0.1
"""


def write_preset(folder, steps, more=""):
    """Write a tiny preset, `p.yaml`."""
    (folder / "p.yaml").write_text(PRESET.format(steps=steps) + more)


def train_in(folder, **more):
    """Train `t` in a folder from `d.star`, `s.star` and `p.yaml`, as the command does."""
    inputs = TrainingInputs(
        densities=read_volume_set(folder / "d.star"),
        subtomograms=read_volume_set(folder / "s.star"),
        **more,
    )
    settings = read_preset(str(folder / "p.yaml"))
    train(inputs, settings, folder / "t", name="p", device=choose_device("cpu"), seed=0)


def load(path):
    """Return the content of a checkpoint."""
    return torch.load(path, weights_only=True)


def equal(first, second):
    """Return whether two contents of checkpoints are equal, bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return first == second


def small_trainer(name="smoke", **changes):
    """Return a trainer of small networks and six random volumes of each domain."""
    tiny = {
        "widths": (4, 4, 8), "blocks": 1, "discriminator_widths": (4, 4, 4), "batch": 2, "steps": 9
    }  # fmt: skip
    torch.manual_seed(5)  # the volumes are the same each time
    return CycleGANTrainer(
        read_preset(name).replace(**{**tiny, **changes}),
        torch.rand(6, 1, 16, 16, 16),
        torch.randn(6, 1, 16, 16, 16).clamp(-1, 1),
        torch.device("cpu"),
        0,
    )


def deterministic_trainer(**changes):
    """Return a trainer whose steps draw nothing but the batch."""
    fixed = {"input_noise": 0.0, "dropout": 0.0, "patch_weight": 0.0, "noise_channels": 0}
    return small_trainer(**{"batch": 4, **fixed, **changes})


def changed_generator(diffusion_steps=2, filters=4):
    """Return a residual generator that changes its input."""
    generator = ResidualGenerator(diffusion_steps, filters)
    with torch.no_grad():
        for step in generator.stages:
            for part in (step.linear, step.bounded, step.falling):
                part.uniform_(0.0, 0.1)
        generator.log_scale += 0.01
        generator.bend += torch.tensor([0.04, -0.02, 0.03])
    return generator
