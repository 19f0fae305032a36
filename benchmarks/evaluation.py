"""Speed of FID and of precision, recall, density and coverage, beside other implementations.

    python benchmarks/evaluation.py [--quick] [--square-root]

One thread, CPU time, alternating runs, medians. The others are torch-fidelity, scipy's matrix square
root, and the prdc package. If torch-fidelity cannot be imported, its formula (the eigenvalues of the
product of the covariances) takes its place. Targets: FID >= 90 x at N = 800 and >= 15 x at 2,000
with 4,096 features, equal to 1e-9; PRDC >= 3 x with <= 1/6 of the memory at N = M = 10,000, equal to
1e-5; N = 50,000 in < 1 GB.
"""

import argparse
import contextlib
import importlib
import os
import statistics
import sys
import time
from unittest.mock import MagicMock

import numpy as np
from memory import peak
from scipy import linalg
from threadpoolctl import threadpool_limits

from cryoetgan.evaluation.metrics import fid, kid, prdc

FEATURES = 4096


def alternate(ours, peer, repeats):
    """Return the median CPU seconds of both functions, and their last results."""
    times, found = ([], []), [None, None]
    for _ in range(repeats):
        for index, function in enumerate((ours, peer)):
            start = time.process_time()
            found[index] = function()
            times[index].append(time.process_time() - start)
    return statistics.median(times[0]), statistics.median(times[1]), *found


def line(what, ours, peer, other, note=""):
    print(
        f"{what:44} {ours:8.2f} s {other:9.2f} s {peer:20} {other / ours:7.1f} x  {note}",
        flush=True,
    )


def fidelity():
    """Return FID of torch-fidelity, without the image library that it does not need."""
    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        sys.modules.setdefault(f"torchvision{name}", MagicMock())
    with contextlib.suppress(ImportError, RuntimeError):
        import torch

        torch.set_num_threads(1)
        metric = importlib.import_module("torch_fidelity.metric_fid")

        def peer(a, b):
            stats = [{"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)} for x in (a, b)]
            found = metric.fid_statistics_to_metric(*stats, verbose=False)
            return float(found[metric.KEY_METRIC_FID])

        return peer, "torch-fidelity"

    def formula(a, b):
        sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        roots = np.sqrt(np.maximum(np.linalg.eigvals(sa @ sb).real, 0)).sum()
        return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb) - 2 * roots)

    return formula, "its formula"


def square_root(a, b):
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(sa @ sb).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * root))


def features(rng, n, f):
    """Return two sets of correlated features, similar to a classifier's."""
    mix = rng.normal(size=(f, f)) / np.sqrt(f) * (1 + np.arange(f)) ** -0.25
    return rng.normal(size=(n, f)) @ mix, 0.9 * rng.normal(size=(n, f)) @ mix + 0.01


def distances(rng, quick, with_root):
    width = 1024 if quick else FEATURES
    peer, name = fidelity()
    for n in (200,) if quick else (800, 2000):
        a, b = features(rng, n, width)
        ours, theirs, x, y = alternate(
            lambda a=a, b=b: fid(a, b), lambda a=a, b=b: peer(a, b), 1 if quick else 2
        )
        line(f"FID, N = {n}, {width} features", ours, name, theirs, f"{x:.10g} beside {y:.10g}")
    n, f = (300, 200) if quick else (2000, 512)
    a, b = features(rng, n, f)
    ours, theirs, x, y = alternate(lambda: fid(a, b), lambda: square_root(a, b), 1)
    line(
        f"FID, N = {n}, {f} features", ours, "scipy sqrtm", theirs, f"relative {abs(x / y - 1):.1e}"
    )
    if with_root:
        a, b = features(rng, 800, FEATURES)
        ours, theirs, x, y = alternate(lambda: fid(a, b), lambda: square_root(a, b), 1)
        line(f"FID, N = 800, {FEATURES} features", ours, "scipy sqrtm", theirs, f"{x:.8g} {y:.8g}")
    start = time.process_time()
    kid(a, b)
    print(f"{f'KID, N = {len(a)}, {a.shape[1]} features':44} {time.process_time() - start:8.2f} s")


def neighbours(rng, quick):
    import prdc as package

    for n, f in ((2000, 64),) if quick else ((10_000, 64), (10_000, 512)):
        a, b = rng.normal(size=(n, f)), 0.97 * rng.normal(size=(n, f))

        def theirs(a=a, b=b):
            with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
                return package.compute_prdc(a, b, 5)

        ours, other, x, y = alternate(lambda a=a, b=b: prdc(a, b), theirs, 1 if quick else 2)
        worst = max(abs(x[key] - float(y[key])) for key in x)
        m, p = peak(lambda a=a, b=b: prdc(a, b)), peak(theirs)
        note = f"{m:.0f} MB beside {p:.0f}: 1 / {p / m:.1f}; differ by {worst:.0e}"
        line(f"PRDC, N = M = {n}, {f} features", ours, "prdc", other, note)
    if not quick:
        n = 50_000
        a, b = rng.normal(size=(n, 64)), rng.normal(size=(n, 64))
        start = time.process_time()
        m = peak(lambda: prdc(a, b))
        took = time.process_time() - start
        print(f"{f'PRDC, N = M = {n}, 64 features':44} {took:8.2f} s {m:9.0f} MB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small numbers: does it run")
    parser.add_argument("--square-root", action="store_true", help="scipy at 4,096: minutes")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'':44} {'ours':>8}   {'peer':>9}")
    with threadpool_limits(1):
        neighbours(rng, given.quick)
        distances(rng, given.quick, given.square_root)


if __name__ == "__main__":
    main()
