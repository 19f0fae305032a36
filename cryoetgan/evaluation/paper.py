"""Paper, Table 2, Table 3 and Table 4 (Wu et al. 2022, doi 10.3389/fphys.2022.760404).

The numbers are not comparable with ours: data, features and classifiers differ. The paper's
accuracy belongs to a classifier trained on real crops and tested on generated volumes; it is
called `gan_test` here. Accuracies are fractions.
"""

from collections.abc import Mapping

TABLE_2: Mapping[str, Mapping[str, float]] = {
    "S_e1": {
        "ssim_class": 0.3071,
        "precision": 1.0,
        "recall": 0.0,
        "density": 320.0,
        "coverage": 1.0,
        "gan_test": 0.764,
    },
    "S_e1, conventional simulation": {"gan_test": 0.197},
    "S_e2": {
        "ssim_class": 0.7192,
        "precision": 0.3493,
        "recall": 0.0678,
        "density": 2.216,
        "coverage": 0.5532,
        "gan_test": 0.673,
    },
    "S_e2, conventional simulation": {"gan_test": 0.289},
}
"""Metrics of generated volumes by data set; `S_e1` and `S_e2` are the experimental sets."""
TABLE_3: Mapping[str, Mapping[str, float]] = {
    "without Gaussian noise": {"fid": 828.18, "is": 1.42},
    "0.2 x Gaussian noise": {"fid": 201.37, "is": 2.32},
    "0.5 x Gaussian noise": {"fid": 273.01, "is": 2.22},
}
"""FID and inception score by the weight of the input noise."""
TABLE_4: Mapping[str, Mapping[str, float]] = {
    "Wasserstein loss, spectral norm": TABLE_2["S_e1"],
    "spectral norm alone": {
        "ssim_class": 0.2006,
        "precision": 0.0,
        "recall": 0.0,
        "density": 0.0,
        "coverage": 0.0,
        "gan_test": 0.269,
    },
    "Wasserstein loss alone": {
        "ssim_class": 0.0413,
        "precision": 1.0,
        "recall": 0.0,
        "density": 320.0,
        "coverage": 1.0,
        "gan_test": 0.571,
    },
}
"""Metrics of data set `S_e1` by loss and normalisation."""
