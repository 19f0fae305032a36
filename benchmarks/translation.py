"""Seconds a training step, memory and rate of the paper's networks, `recommended` and `smoke`.

    python benchmarks/translation.py [--quick] [--device auto|cpu|cuda] [--cases literal,paper]
        [--boxes 28,40] [--kinds float32,bf16,compiled] [--repeats 3] [--threads 1]

One step contains all updates: both generators and both discriminators of the CycleGAN; the
residual generator of `recommended` and, every eighth step, its density estimator. `literal` is
the paper's text (discriminator of stride 1, batch 1), `paper` the preset (stride 2). Each
measurement runs in its own process: float32, and bfloat16 if the device multiplies it, in turns;
medians. CPU: process time over threads, and wall time, which is longer where threads wait; the rate
is compared with a 2048^3 matrix product of the same precision. GPU: wall time, synchronised, with
PyTorch's default TF32 for float32, and `compiled`; the rate is compared with the maker's dense
bfloat16 peak. Targets on CPUs: literal bf16 >= 3.5 x its own float32 (processors with AMX); on H100:
>= 3 x eager TF32, >= 40 % of the dense bf16 rate on `literal`.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode

from cryoetgan.devices import choose_device, multiplies_bfloat16
from cryoetgan.machine import set_up_processor
from cryoetgan.physics.geometry import HALF_TURNS
from cryoetgan.translation.cyclegan.trainer import CycleGANTrainer
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.presets import read_preset
from cryoetgan.translation.residual.scene_bank import SceneBank
from cryoetgan.translation.residual.trainer import ESTIMATOR_EVERY_STEPS, ResidualTrainer

CASES = {
    "literal": ("paper", {"discriminator_stride": 1}),
    "paper": ("paper", {}),
    "released": ("released", {}),
    "recommended": ("recommended", {}),
    "smoke": ("smoke", {}),
}
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, floating-point operations a second, their maker's data sheets."""
PRODUCT = 2048
KINDS = ("float32", "bf16", "compiled")


def trainer(case, box, kind, device):
    preset, changes = CASES[case]
    how = {"precision": "float32" if kind == "float32" else "bf16", "compile": kind == "compiled"}
    settings = read_preset(preset).replace(**changes, **how)
    torch.manual_seed(0)
    shape = (2 * settings.batch, 1, box, box, box)
    real = torch.randn(shape).clamp(-1, 1)
    if settings.model == "cyclegan":
        return CycleGANTrainer(settings, torch.rand(shape), real, device, 0)
    scenes = SceneBank(
        torch.randn(shape), torch.randn(shape), torch.rand(shape).half(),
        torch.zeros(len(real), dtype=torch.long),
    )  # fmt: skip
    scalers = Scaler(0.0, 1.0), Scaler(0.0, 1.0, limit=math.inf)
    return ResidualTrainer(settings, scenes, real, scalers, HALF_TURNS, device, 0)


def seconds(device, work):
    """Seconds that work takes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) / (1 if device.type == "cuda" else torch.get_num_threads())


class Whole(nullcontext):
    """All operations are the whole's: none of a module's."""

    parents = frozenset({"Global"})


def child(case, box, kind, device, steps):
    """Print what one process measures."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = trainer(case, box, kind, device)
    made.diagnose = lambda: None  # rare in a long run, but at every step of this short one
    # one step of a period trains the density estimator, too
    period = ESTIMATOR_EVERY_STEPS if isinstance(made, ResidualTrainer) else 1
    counter = FlopCounterMode(display=False)
    # it would hook gradients at each module's inputs, which a gradient penalty's are not ready for
    counter.mod_tracker = Whole()
    with counter:
        first = seconds(device, lambda: made.run(period)) / period
    flops = counter.get_total_flops() / period
    found = {"flops": flops, "seconds": first, "batch": made.settings.batch}
    if steps:  # the first ones are warmth alone
        steps, start = -(-steps // period) * period, time.perf_counter()
        found["seconds"] = seconds(device, lambda: made.run(period + steps)) / steps
        found["wall"] = (time.perf_counter() - start) / steps
    if device.type == "cuda":
        found["memory"] = torch.cuda.max_memory_allocated(device) / 1e9
        name = torch.cuda.get_device_name(device)
        found["peak"] = next((v for k, v in PEAKS.items() if k in name), None)
    else:
        found["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
        dtype = torch.float32 if kind == "float32" else torch.bfloat16
        pair = [torch.randn(PRODUCT, PRODUCT).to(dtype) for _ in range(2)]
        torch.mm(*pair)
        found["peak"] = 2 * PRODUCT**3 / seconds(device, lambda: torch.mm(*pair))
    print(json.dumps(found))


def measure(case, box, device, repeats, threads, wanted):
    kinds = ["float32"] + (["bf16"] if multiplies_bfloat16(device) else [])
    kinds += ["compiled"] if device.type == "cuda" else []
    kinds = [kind for kind in kinds if kind in wanted]
    slow = case == "literal" and device.type == "cpu"  # a step is minutes
    steps = 0 if slow else 3 if device.type == "cpu" else 20
    found = {kind: [] for kind in kinds}
    for _ in range(1 if slow else repeats):
        for kind in kinds:
            words = [sys.executable, __file__, "--child", case, str(box), kind, str(steps)]
            words += ["--device", device.type, "--threads", str(threads)]
            said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            found[kind].append(json.loads(said.splitlines()[-1]))
    middle = {k: statistics.median(f["seconds"] for f in runs) for k, runs in found.items()}
    for kind, runs in found.items():
        rate = runs[0]["flops"] / middle[kind]
        peak = statistics.median(f["peak"] or 0 for f in runs)
        print(
            f"{case:12} {box}^3 batch {runs[0]['batch']} {kind:8} {middle[kind]:8.3f} s a step  "
            f"{runs[0]['flops'] / 1e9:8.0f} GFLOP {rate / 1e9:8.1f} GFLOP/s"
            + (f" = {100 * rate / peak:3.0f} % of peak" if peak else "")
            + f"  {max(f['memory'] for f in runs):.2f} GB"
            + f"  wall {statistics.median(f.get('wall', math.nan) for f in runs):.3f} s"
            + (
                f"  {middle['float32'] / middle[kind]:.2f} x float32" if "float32" in middle else ""
            ),
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="28^3 alone, once, nothing literal")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--boxes", default="28,40")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--child", nargs=4)
    given = parser.parse_args()
    set_up_processor()  # for the processes that measure
    torch.set_num_threads(given.threads)
    device = choose_device(given.device)
    if given.child:
        case, box, kind, steps = given.child
        child(case, int(box), kind, device, int(steps))
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}, {given.threads} threads")
    if device.type == "cpu" and not multiplies_bfloat16(device):
        print("this processor does not multiply bfloat16: float32 alone")
    boxes = [28] if given.quick else [int(box) for box in given.boxes.split(",")]
    cases = given.cases.split(",")
    for box in boxes:
        for case in [c for c in cases if not (given.quick and c == "literal")]:
            repeats = 1 if given.quick else given.repeats
            measure(case, box, device, repeats, given.threads, given.kinds.split(","))


if __name__ == "__main__":
    main()
