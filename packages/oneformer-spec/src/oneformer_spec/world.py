"""Which processes do one thing together, and which of them this one is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """One process among those that work together, each with a device of its own.

    `rank` counts over all machines, `local_rank` on this one; `size` and `local_size` are their numbers.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this is the process that prints and writes."""
        return self.rank == 0

    def share(self, count: int, unit: int = 1) -> range:
        """Return the part of `count` items that falls to this process: contiguous, in whole units of so many items.

        The parts of all ranks, one after the other, are `range(count)`; they differ by one unit at most.
        """
        units = -(-count // unit)
        first, last = (units * rank // self.size * unit for rank in (self.rank, self.rank + 1))
        return range(first, min(last, count))


ALONE = World()
