"""Import of density maps: centre, values, other programs' files, and the warning of a cut."""

import gzip

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.densities.density_from_atoms import (
    HEAVY_ATOM_DENSITY,
    protein_density,
    simulate,
)
from cryoetgan.densities.maps import import_map, resample_to_box
from cryoetgan.io.mrc import read_volume
from cryoetgan.tables import ClassRow
from tests.conftest import refused
from tests.tomograms.writing import patched, write_mrc


@pytest.fixture
def blob():
    z, y, x = np.indices((24, 24, 24)) - 12.0
    return np.exp(-((x - 2) ** 2 / 18 + y**2 / 8 + (z + 1) ** 2 / 12)).astype(np.float32)


def centre(density, voxel_size):
    """Centre of mass from voxel n // 2, zyx in angstrom."""
    return (np.array(ndimage.center_of_mass(density)) - len(density) // 2) * voxel_size


def test_the_same_grid_is_kept_and_padding_and_cropping_keep_the_centre(blob):
    assert np.allclose(resample_to_box(blob, 5.0, 5.0, 24), blob, atol=1e-6)
    wide = resample_to_box(blob, 5.0, 5.0, 30)
    assert np.allclose(wide[3:27, 3:27, 3:27], blob, atol=1e-6)
    assert np.allclose(resample_to_box(wide, 5.0, 5.0, 24), blob, atol=1e-5)


@pytest.mark.parametrize("voxel_size", [3.7, 8.0])
def test_another_voxel_size_keeps_centre_and_mass(blob, voxel_size):
    resampled = resample_to_box(blob, 5.0, voxel_size, 40)
    assert centre(resampled, voxel_size) == pytest.approx(centre(blob, 5.0), abs=0.2)
    mass = resampled.sum() * voxel_size**3
    assert mass == pytest.approx(blob.sum() * 5.0**3, rel=0.01)


def test_gzip_axis_order_and_byte_order_make_no_difference(tmp_path, blob):
    plain = write_mrc(tmp_path / "plain.mrc", blob, 5.0)
    expected, size, outside, _ = import_map(plain, 6.0, 28)
    assert size == pytest.approx(5.0)
    assert outside < 0.01
    # columns are y, rows z, sections x
    turned = write_mrc(tmp_path / "turned.mrc", np.ascontiguousarray(blob.transpose(2, 0, 1)), 5.0)
    raw = patched(turned.read_bytes(), w16=np.array([2, 3, 1], "<i4").tobytes())
    (tmp_path / "turned.map.gz").write_bytes(gzip.compress(raw))
    big = write_mrc(tmp_path / "big.mrc", blob.astype(">f4"), 5.0)
    for path in (tmp_path / "turned.map.gz", big):
        assert np.allclose(import_map(path, 6.0, 28)[0], expected, atol=1e-6), path


def test_the_command_warns_of_a_cut_and_refuses_a_dark_map(cryoetgan, tmp_path, blob):
    write_mrc(tmp_path / "m.mrc", blob, 5.0)
    write_mrc(tmp_path / "dark.mrc", -blob, 5.0)
    words = ("densities", "import", "m.mrc", "--voxel-size", 5, "-o", "o.mrc", "--box")
    assert "cuts off" not in cryoetgan(*words, 24).stderr
    assert read_volume(tmp_path / "o.mrc").voxel_size == pytest.approx(5.0)
    assert "--box" in cryoetgan(*words, 12).stderr
    words = ("densities", "import", "dark.mrc", "--voxel-size", 5, "--box", 24, "-o", "x.mrc")
    refused(cryoetgan(*words, code=2), "dark.mrc", "multiply")


def test_a_header_without_cubic_voxels_needs_a_voxel_size(cryoetgan, tmp_path, blob):
    write_mrc(tmp_path / "m.mrc", blob, (5.0, 5.0, 6.0))
    words = ("densities", "import", "m.mrc", "--voxel-size", 5, "--box", 24, "-o", "o.mrc")
    refused(cryoetgan(*words, code=2), "m.mrc", "not cubes", "--input-voxel-size")
    cryoetgan(*words, "--input-voxel-size", 5)
    found = read_volume(tmp_path / "o.mrc").data
    assert np.allclose(found / found.max(), blob / blob.max(), atol=1e-5)


def test_a_foreign_grey_scale_becomes_that_of_protein(tmp_path, rng):
    # carbon atoms of protein's density in a ball of 40 A, at 15 A
    count = round(HEAVY_ATOM_DENSITY * 4 / 3 * np.pi * 40**3 / 6)
    inside = rng.uniform(-40, 40, (3 * count, 3))
    inside = inside[np.linalg.norm(inside, axis=1) < 40][:count]
    own = simulate(inside, np.full(count, 6), 5.0, 15.0, 32)
    assert own[12:21, 12:21, 12:21].mean() == pytest.approx(protein_density(15.0), rel=0.05)
    scales = [1.0, 1e-6, 1e6]
    for factor in scales:
        write_mrc(tmp_path / f"{factor:g}.mrc", own * np.float32(factor), 5.0)
    kept, small, large = (import_map(tmp_path / f"{f:g}.mrc", 5.0, 32)[0] for f in scales)
    np.testing.assert_allclose(kept, own, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-2)
    assert 0.5 < np.median(small[own > 100] / own[own > 100]) < 2
    assert import_map(tmp_path / "1e-06.mrc", 5.0, 32).factor == pytest.approx(6e5, rel=0.1)
    # the unit depends on the resolution of the other maps
    sharper = import_map(tmp_path / "1e-06.mrc", 5.0, 32, resolution=10.0)[0]
    assert small.max() / sharper.max() == pytest.approx(1.5**3, rel=1e-4)


@pytest.mark.parametrize(("sign", "said"), [(1, False), (-1, True)])
def test_a_map_of_dark_protein_is_said(cryoetgan, tmp_path, blob, rng, sign, said):
    noise = rng.normal(0, 0.02, blob.shape).astype(np.float32)
    write_mrc(tmp_path / "m.mrc", sign * blob + noise, 5.0)
    words = ("densities", "import", "m.mrc", "--voxel-size", 5, "--box", 24, "-o", "o.mrc")
    assert ("protein seems dark" in cryoetgan(*words).stderr) == said


def test_an_offset_is_said(cryoetgan, tmp_path, blob):
    for name, offset in (("a", 0.0), ("b", 1.0)):
        write_mrc(tmp_path / f"{name}.mrc", blob + np.float32(offset), 5.0)
        words = (
            "densities",
            "import",
            f"{name}.mrc",
            "--voxel-size",
            5,
            "--box",
            24,
            "-o",
            "o.mrc",
        )
        assert ("background" in cryoetgan(*words).stderr) == bool(offset)


def test_an_image_is_no_map(cryoetgan, tmp_path, blob):
    write_mrc(tmp_path / "m.mrc", blob[12:13], 5.0)
    words = ("densities", "import", "m.mrc", "--voxel-size", 5, "--box", 24, "-o", "o.mrc")
    refused(cryoetgan(*words, code=2), "24x24x1 voxels", "three axes")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("emd_1234.map.gz", "map"),
        ("Maps/A.MRC.bz2", "map"),
        ("a.ccp4", "map"),
        ("a.cif.gz", "file"),
        ("4v6x", "pdb"),
    ],
)
def test_the_table_knows_compressed_maps(source, kind):
    assert ClassRow.model_validate({"class": "a", "source": source}).kind == kind
