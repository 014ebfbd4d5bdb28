"""Who is in memory and who runs next. `Fleet` is the one door; `plan` decides, `residency` does."""

from studium.fleet.fleet import Fleet, Seat

__all__ = ["Fleet", "Seat"]
