"""Translation: seconds a step of the paper's networks and of preset recommended.

    python benchmarks/translation.py [--quick] [--device auto|cpu|cuda] [--stride 1]

One step is all updates of it: both generators and both critics of the paper's cycle, the
residual generator and its two critics of `recommended`. CPU: process time over threads'
number, alternating runs, medians, float32 beside bfloat16 where the processor multiplies it.
GPU: wall time, synchronised, the device's name, share of its peak where that is known.
Owed on CPUs: paper-exact bf16 >= 3.5 x its own float32 (processors with AMX or AVX-512 bf16);
on H100: >= 3 x eager TF32, >= 40 % of the dense bf16 rate on the paper-exact network.
"""

import argparse
import resource
import statistics
import time
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from cryoetgan.devices import choose_device, multiplies_bfloat16
from cryoetgan.translation.presets import read_preset
from cryoetgan.translation.residual_training import ResidualTrainer
from cryoetgan.translation.scaling import Scaler
from cryoetgan.translation.stock import Scenes
from cryoetgan.translation.training import Trainer

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, floating-point operations a second, their maker's data sheets."""


def trainer(preset, box, precision, device, changes):
    settings = replace(read_preset(preset), precision=precision, **changes)
    torch.manual_seed(0)
    shape = (2 * settings.batch, 1, box, box, box)
    real = torch.randn(shape).clamp(-1, 1)
    if settings.frame == "cycle":
        return Trainer(settings, torch.rand(shape).to(device), real.to(device), device, 0)
    stock = Scenes(
        torch.randn(shape), torch.randn(shape), torch.rand(shape).half(),
        torch.zeros(len(real), dtype=torch.long),
    )  # fmt: skip
    scalers = Scaler(0.0, 1.0), Scaler(0.0, 1.0, bounded=False)
    return ResidualTrainer(settings, stock, real, scalers, True, device, 0)


def timed(made, device, steps):
    """Seconds a step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    made.run(made.step + steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    threads = 1 if device.type == "cuda" else torch.get_num_threads()
    return (clock() - start) / steps / threads


def measure(preset, box, device, repeats, changes):
    kinds = ["float32"] + (["bf16"] if multiplies_bfloat16(device) else [])
    made = {kind: trainer(preset, box, kind, device, changes) for kind in kinds}
    with FlopCounterMode(display=False) as counter:
        made[kinds[-1]].run(1)
    flops = counter.get_total_flops()
    times = {kind: [] for kind in kinds}
    for kind in kinds:
        made[kind].run(made[kind].step + 1)
    for _ in range(repeats):
        for kind in kinds:
            times[kind].append(timed(made[kind], device, 1 if device.type == "cpu" else 10))
    batch = made[kinds[0]].settings.batch
    for kind in kinds:
        seconds = statistics.median(times[kind])
        rate = flops / seconds
        note = f"{rate / 1e9:8.1f} GFLOP/s"
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
            peak = next((v for k, v in PEAKS.items() if k in name), None)
            note += f", {100 * rate / peak:.0f} % of peak" if peak and kind == "bf16" else ""
            note += f", {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB"
        print(
            f"{preset:12} {box}^3 batch {batch} {kind:8} {seconds:8.3f} s a step  "
            f"{flops / 1e9:8.0f} GFLOP {note}",
            flush=True,
        )
    if len(kinds) == 2:
        ratio = statistics.median(times["float32"]) / statistics.median(times["bf16"])
        print(f"{preset:12} {box}^3 bf16 is {ratio:.1f} x as fast as float32")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="28^3 alone, once")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--stride", type=int, default=2, help="of the paper's critic; 1: literal")
    given = parser.parse_args()
    device = choose_device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}, {torch.get_num_threads()} threads")
    if device.type == "cpu" and not multiplies_bfloat16(device):
        print("this processor does not multiply bfloat16: float32 alone")
    for box in (28,) if given.quick else (28, 40):
        measure("paper", box, device, 1 if given.quick else 3, {"critic_stride": given.stride})
        measure("recommended", box, device, 1 if given.quick else 3, {})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory of this process: {peak:.2f} GB")


if __name__ == "__main__":
    main()
