"""Presets: the paper's and the published values, ranges, unknown keys."""

import pytest

from cryoetgan.errors import UserError
from cryoetgan.translation.cyclegan.settings import CycleGANSettings
from cryoetgan.translation.cyclegan.trainer import make_discriminator
from cryoetgan.translation.engine.settings import TrainingSettings
from cryoetgan.translation.presets import (
    MODELS,
    RENAMED,
    known_presets,
    parse_settings,
    read_preset,
)
from cryoetgan.translation.train import resolve_epochs


def test_presets_hold_the_papers_and_the_published_values():
    released = {
        "widths": (64, 128, 128), "blocks": 6, "bias": False, "res_norm": "none",
        "padding": "same", "noise_channels": 128, "noise_generators": "both", "output": "tanh",
        "discriminator_widths": (64, 128, 256, 512), "discriminator_stride": 2, "discriminator_norm": "instance",
        "spectral_norm": False, "objective": "lsgan", "real_label": 0.8, "clip": 0.0,
        "penalty_weight": 10.0, "penalty_norm": "axis", "optimiser": "rmsprop",
        "lr_generator": 2e-4, "decay_start": 1.0, "batch": 1, "epochs": 50.0, "discriminator_steps": 1,
        "replay_pool": 50, "cycle_weight": 100.0, "identity_weight": 0.0, "input_noise": 0.0,
        "input_noise_unit": "absolute", "input_noise_draw": "once", "scaling": "zscore",
        "dropout_on": "output",
    }  # fmt: skip
    settings = read_preset("released")
    assert {key: getattr(settings, key) for key in released} == released
    paper = {
        "widths": (32, 64, 128), "blocks": 5, "bias": True, "res_norm": "instance",
        "noise_channels": 1, "discriminator_widths": (64, 128, 256), "spectral_norm": True,
        "objective": "wgan", "clip": 0.01, "optimiser": "rmsprop", "lr_generator": 5e-4,
        "cycle_weight": 10.0, "identity_weight": 0.0, "input_noise": 0.2,
        "input_noise_unit": "std", "input_noise_draw": "step", "dropout": 0.1,
        "dropout_on": "blocks", "scaling": "domain",
    }  # fmt: skip
    settings = read_preset("paper")
    assert {key: getattr(settings, key) for key in paper} == paper


def test_every_preset_of_the_cyclegan_fits_small_boxes():
    assert {"paper", "released", "cyclegan", "recommended", "smoke"} <= set(known_presets())
    for name in known_presets():
        settings = read_preset(name)
        if settings.model == "cyclegan":
            assert make_discriminator(settings).smallest_box() <= 32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"discriminator_steps": 0}, ("discriminator_steps is 0", "equal to 1")),
        ({"dropout": 1.5}, ("dropout is 1.5", "equal to 1")),
        ({"lr_discriminator": float("nan")}, ("lr_discriminator is nan",)),
        ({"discriminator_widths": []}, ("discriminator_widths",)),
        ({"betas": [0.5, 1.5]}, ("betas.1 is 1.5", "less than 1")),
        ({"objective": "wgan-gp"}, ("penalty_weight to 10",)),
        ({"model": "autoencoder"}, ("'autoencoder'", "cyclegan, residual")),
        ({"widhts": [1, 2, 3]}, ("cyclegan has no key 'widhts'", "'widths'")),
        ({"model": "residual", "widths": [1, 2, 3]}, ("residual has no key 'widths'", "'width'")),
    ],
)
def test_wrong_values_and_keys_are_refused(content, words):
    with pytest.raises(UserError) as refused:
        parse_settings(content, "p.yaml")
    for word in ("p.yaml", *words):
        assert word in str(refused.value)


def test_an_earlier_key_names_the_present_one():
    known = {name for model in MODELS.values() for name in model.model_fields}
    for earlier, present in RENAMED.items():
        assert present in known
        with pytest.raises(UserError, match=f"'{earlier}'.*now '{present}'"):
            parse_settings({earlier: 1}, "p.yaml")


@pytest.mark.parametrize("model", MODELS.values())
def test_every_number_of_a_preset_has_bounds_and_every_key_a_description(model):
    for name, field in model.model_fields.items():
        assert field.description or name in TrainingSettings.model_fields
        if field.annotation in (int, float) and name != "real_label":
            assert field.metadata, name


def test_settings_are_plain_values_and_back():
    settings = read_preset("released")
    assert parse_settings(settings.plain(), "x") == settings
    assert settings.plain()["widths"] == [64, 128, 128]
    with pytest.raises(ValueError, match="batch"):
        settings.replace(batch=0)


def test_epochs_are_passes_over_the_subtomograms():
    assert resolve_epochs(CycleGANSettings(epochs=2.5, batch=4), 6).steps == 4  # 15 volumes
    assert resolve_epochs(CycleGANSettings(epochs=2, held_out=0.5), 6).steps == 6
    assert resolve_epochs(CycleGANSettings(steps=7), 6).steps == 7
