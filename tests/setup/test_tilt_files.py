"""Tilt files: every notation of the same series gives the same angles."""

import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.setup.tilt_files import read_tilt_file

ANGLES = np.arange(-54.0, 61.0, 3)
DOSE_SYMMETRIC = ANGLES[np.argsort(np.abs(ANGLES), kind="stable")]
STAR = "data_\n\nloop_\n_wrpMovieName #1\n_wrpAngleTilt #2\n_wrpDose #3\n"
ALN = "# AreTomo Alignment / Priims bprmMn\n# RawSize = 4092 5760 39\n# DarkFrame = 3 3 70.0\n"
NOTATIONS = {
    "plain.tlt": lambda n, a: f"  {a:.2f}\n",
    "signs.rawtlt": lambda n, a: f"{a:+.1f}\r\n",
    "exponents.tlt": lambda n, a: f"{a:.5e}\n",
    "fortran.tlt": lambda n, a: f"{a / 10:.4f}D+01\n",
    "comma.tlt": lambda n, a: f"{a:.2f}\n".replace(".", ","),
    "minus.tlt": lambda n, a: f"{a:.2f}\n".replace("-", "\u2212"),
    "dose.rawtlt": lambda n, a: f"{a:.2f} {3.1 * n:.2f}\n",
    "number.rawtlt": lambda n, a: f"{n + 1} {a:.2f} {3.1 * n:.2f}\n",
    "narrow.tlt": lambda n, a: f"{a:.2f},{3.1 * n:.2f}\n",
    "order.csv": lambda n, a: f"{n},{a:.0f}\n",
    "three.csv": lambda n, a: f"{n},{a:.0f},{3 * n}\n",
    "commas.tlt": lambda n, a: f"{n} {a:.1f} {3.1 * n:.1f}\n".replace(".", ","),
    "csv.tlt": lambda n, a: f"{a:.2f}, {3.1 * n:.2f}\n",
    "serial.mdoc": lambda n, a: f"[ZValue = {n}]\nTiltAngle = {a:.4f}\nExposureDose = 3\n\n",
    "serial.mrc.mdoc": lambda n, a: f"[ZValue = {n}]\nTiltAngle= {a:+.3e}\n",
    "are.aln": lambda n, a: f"{n:5d} -85.3 1.0 2.3 {a / 5:.2f} 1 1 1 0 {a:8.2f}\n",
    "warp.tomostar": lambda n, a: f"../x_{n}.mrc {a:.3f} {3.1 * n:.2f}\n",
}
HEADS = {"are.aln": ALN, "warp.tomostar": STAR, "dose.rawtlt": "# angle dose\n"}
TAILS = {"are.aln": "# Local Alignment\n0 0 1.0 2.0 3.0 4.0 85.0\n"}


@pytest.mark.parametrize("name", NOTATIONS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_notation_gives_the_same_series(tmp_path, name, encoding):
    rows = "".join(NOTATIONS[name](n, angle) for n, angle in enumerate(DOSE_SYMMETRIC))
    text = HEADS.get(name, "") + rows + TAILS.get(name, "")
    (tmp_path / name).write_bytes(text.encode(encoding))
    found = read_tilt_file(tmp_path / name)
    assert np.allclose(found.angles, ANGLES, atol=1e-6)
    assert found.step == pytest.approx(3)


def test_repeated_and_missing_views_do_not_change_the_step(tmp_path):
    angles = [*ANGLES[:5], ANGLES[4], *ANGLES[8:]]
    (tmp_path / "a.tlt").write_text("".join(f"{angle}\n" for angle in angles))
    assert read_tilt_file(tmp_path / "a.tlt").step == pytest.approx(3)


def test_steps_of_one_degree_are_not_a_count(tmp_path):
    (tmp_path / "a.tlt").write_text("".join(f"{angle}\n" for angle in range(1, 41)))
    assert read_tilt_file(tmp_path / "a.tlt").angles[[0, -1]].tolist() == [1, 40]


@pytest.mark.parametrize("angles", [[-9, -6, -3, 0, 3, 6], [-3, -2, -1, 0, 1, 2]])
def test_the_order_of_images_is_no_angle_however_the_rows_are_sorted(tmp_path, angles):
    rows = zip((5, 4, 2, 1, 3, 6), angles, (15, 12, 6, 3, 9, 18), strict=True)
    (tmp_path / "a.tlt").write_text("".join("{} {} {}\n".format(*row) for row in rows))
    assert read_tilt_file(tmp_path / "a.tlt").angles.tolist() == angles


@pytest.mark.parametrize(
    ("text", "angles"),
    [
        ("-60,5\n-57\n", [-60.5, -57]),  # one column
        ("-60,5\n-57,05\n", [-60.5, -57.05]),
        ("-60,0\n-57,0\n", [-60, -57]),  # the same in both readings
        ("-60,5\n-57,8.5\n", [-60, -57]),
        ("angle,dose\n-60,5,1\n-57,8,2\n", [-60, -57]),
    ],
)
def test_a_comma_is_read_as_the_whole_file_says(tmp_path, text, angles):
    (tmp_path / "a.tlt").write_text(text)
    assert read_tilt_file(tmp_path / "a.tlt").angles.tolist() == angles


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("empty.tlt", "", "no tilt angles"),
        ("words.tlt", "tilt angles of TS_1\n", "no tilt angles"),
        ("dose.tlt", "100.5\n203.1\n", "no tilt angles"),
        ("one.tlt", "3.0\n", "no tilt angles"),
        ("comma.tlt", "-60,5\n-57,8\n", "'-60,5' may be a decimal comma"),
        ("far.mdoc", "TiltAngle = 12\nTiltAngle = 140\n", "140 degrees"),
        ("none.mdoc", "PixelSpacing = 2\n", "no tilt angles"),
        ("radians.tlt", "-1.047\n0\n1.047\n", "radians"),
        ("flat.mdoc", "TiltAngle = 0\nTiltAngle = 0\n", "from 0 to 0"),
    ],
)
def test_a_file_without_angles_is_named(tmp_path, name, text, word):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}.*{word}"):
        read_tilt_file(tmp_path / name)
