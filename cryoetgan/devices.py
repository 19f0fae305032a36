"""Choice of the device for tensors."""

import torch

from cryoetgan.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

    On a CPU, deterministic algorithms are switched on: otherwise the backward pass of indexing adds
    in the order of the threads, and one seed gives different bytes with several threads.

    Raises
    ------
    UserError
        If the name is another one, or if it is `cuda` and PyTorch finds no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device: got '{name}', wanted auto, cpu or cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("--device: got cuda, but PyTorch finds no GPU; use auto or cpu")
    device = torch.device("cuda" if available and name != "cpu" else "cpu")
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # uninitialised memory is never read, so filling it only costs time
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32: on GPUs and on CPUs with instructions for it.

    Other CPUs emulate it, eight times slower (measured on an EPYC without AVX-512).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
