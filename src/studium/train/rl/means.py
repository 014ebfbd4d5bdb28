"""Means by name over all that was measured in a step, whose parts are of unequal size."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Means:
    """Every value added counts the same, whichever part it came with. `names` come first in `all`, in their order."""

    def __init__(self, *names: str) -> None:
        self._sums = dict.fromkeys(names, 0.0)
        self._numbers = dict.fromkeys(names, 0)

    def add(self, name: str, values: "torch.Tensor") -> None:
        """Count in values of any shape; none of them is nothing measured, not 0."""
        if number := values.numel():
            self._sums[name] = self._sums.get(name, 0.0) + float(values.detach().float().mean()) * number
            self._numbers[name] = self._numbers.get(name, 0) + number

    def of(self, name: str) -> float | None:
        """Return a mean; None where nothing was measured."""
        number = self._numbers.get(name, 0)
        return self._sums[name] / number if number else None

    def all(self) -> dict[str, float]:
        """Return the means of all that was measured."""
        return {name: mean for name in self._sums if (mean := self.of(name)) is not None}
