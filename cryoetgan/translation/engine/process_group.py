"""Processes that train one model together: what they tell each other."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from torch import Tensor

T = TypeVar("T")


class Team:
    """One process alone; `several.Several` is the same of several."""

    rank = 0
    """This process's number; 0 writes files."""
    count = 1
    """How many there are."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over all processes, in place."""

    def anyone(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag

    def gather(self, item: Any) -> list[Any]:
        """Return every process's item, in order of rank."""
        return [item]

    def first(self, make: Callable[[], T]) -> T:
        """Return what process 0 makes; its `UserError` ends all."""
        return make()

    def fail(self, error: Exception) -> NoReturn:
        """End a run for a reason that every process has: the first says it."""
        raise error

    def leave(self) -> None:
        """Wait for the others and part."""
