"""Paper, Table 2, Table 3 and Table 4 (Wu et al. 2022, doi 10.3389/fphys.2022.760404).

The numbers are not comparable with ours: data, features and classifiers differ. The paper's
accuracy belongs to a classifier trained on real crops and tested on generated volumes; it is
called `gan_test` here. Accuracies are fractions.
"""

from collections.abc import Mapping

COLUMNS = ("ssim_class", "precision", "recall", "density", "coverage", "gan_test")
Table = Mapping[str, Mapping[str, float]]


def _row(*values: float) -> dict[str, float]:
    return dict(zip(COLUMNS, values, strict=True))


TABLE_2: Table = {
    "S_e1": _row(0.3071, 1.0, 0.0, 320.0, 1.0, 0.764),
    "S_e1, conventional simulation": {"gan_test": 0.197},
    "S_e2": _row(0.7192, 0.3493, 0.0678, 2.216, 0.5532, 0.673),
    "S_e2, conventional simulation": {"gan_test": 0.289},
}
"""Metrics of generated volumes by data set; `S_e1` and `S_e2` are the experimental sets."""
TABLE_3: Table = {
    "without Gaussian noise": {"fid": 828.18, "is": 1.42},
    "0.2 x Gaussian noise": {"fid": 201.37, "is": 2.32},
    "0.5 x Gaussian noise": {"fid": 273.01, "is": 2.22},
}
"""FID and inception score by the weight of the input noise."""
TABLE_4: Table = {
    "Wasserstein loss, spectral norm": TABLE_2["S_e1"],
    "spectral norm alone": _row(0.2006, 0.0, 0.0, 0.0, 0.0, 0.269),
    "Wasserstein loss alone": _row(0.0413, 1.0, 0.0, 320.0, 1.0, 0.571),
}
"""Metrics of data set `S_e1` by loss and normalisation."""
