"""Who is in memory and who runs next. `Fleet` is the one door; `plan` decides, `residency` does."""

from studium.fleet.expectation import Coming, Expectation
from studium.fleet.fleet import Fleet, Seat, tokens_at_most
from studium.fleet.lease import Lease

__all__ = ["Coming", "Expectation", "Fleet", "Lease", "Seat", "tokens_at_most"]
