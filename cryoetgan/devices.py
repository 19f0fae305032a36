"""Which device tensors are computed on."""

import torch

from cryoetgan.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

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
    return torch.device("cuda" if there and name != "cpu" else "cpu")
