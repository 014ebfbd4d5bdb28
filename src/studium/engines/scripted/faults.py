"""Which fault happens now: counts how often each model's fault struck. Shared by the engine and the server."""

from collections import Counter
from collections.abc import Set as AbstractSet

from studium.engines.scripted.script import Fault, FaultKind, ModelScript

LOAD_FAULTS = frozenset((FaultKind.CRASH_AT_LOAD, FaultKind.HANG_AT_LOAD, FaultKind.OUT_OF_MEMORY))
UNLOAD_FAULTS = frozenset((FaultKind.KEEPS_MEMORY, FaultKind.GIVES_BACK_LATE, FaultKind.HIDES_MEMORY))
ANSWER_FAULTS = frozenset(FaultKind) - LOAD_FAULTS - UNLOAD_FAULTS - {FaultKind.STALL}
PULL_FAULTS = frozenset(FaultKind) - LOAD_FAULTS - UNLOAD_FAULTS - {FaultKind.SLOW_DRIP, FaultKind.BUSY}


class Faults:
    """Remembers how often each model misbehaved."""

    def __init__(self) -> None:
        self._struck: Counter[str] = Counter()

    def strike(
        self, name: str, script: ModelScript, kinds: AbstractSet[FaultKind] = ANSWER_FAULTS
    ) -> Fault | None:
        """Return the fault that happens to model `name` now, if it is one of `kinds`, and count it."""
        fault = script.fault
        if fault is None or fault.kind not in kinds:
            return None
        if fault.times is not None and self._struck[name] >= fault.times:
            return None
        self._struck[name] += 1
        return fault
