"""Which device tensors are computed on."""

import torch

from cryoetgan.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

    On a CPU the same seed then gives the same bytes with several threads too: some backward passes
    (those of indexing) otherwise add in the order in which threads come.

    Raises
    ------
    UserError
        Where the name is another, or CUDA is asked for and not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device: got '{name}', wanted auto, cpu or cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("--device: cuda is asked for, but PyTorch finds no GPU; use auto or cpu")
    device = torch.device("cuda" if there and name != "cpu" else "cpu")
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # nothing reads what is empty
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is quicker than float32: on GPUs, and on CPUs that multiply it.

    Elsewhere it is emulated: eight times slower (measured on an EPYC without AVX-512).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
