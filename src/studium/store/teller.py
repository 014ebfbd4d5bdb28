"""One thread that does the ledger's work, many reservations to one sync of the disk.

Callers get futures, so that nobody's event loop waits for the disk. Each reservation is still its own conditional
statement; those that came while the disk was busy share the next transaction.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

from studium.errors import StoreUnavailable
from studium.records.spending import Amount, Refusal, Want
from studium.store.spending import CapsOf, Spending

log = logging.getLogger(__name__)

MOST_A_TURN = 256
# A settlement the disk refuses is tried again this long after; meanwhile its reservation stands.
RETRY_S = 1.0
LOOK_S = 2.0
_CLOSE_S = 10.0


class _Settlement(NamedTuple):
    number: int
    spent: Amount


class _Reservation(NamedTuple):
    want: Want
    promised: "Future[int | Refusal]"


class Teller:
    """Owns the thread. `seen` is called there with the settings changed at run time, after each look.

    The settings are looked at with every turn, and every LOOK_S seconds where somebody else may change them.
    """

    def __init__(
        self,
        spending: Spending,
        caps_of: CapsOf,
        *,
        seen: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._spending = spending
        self._caps_of = caps_of
        self._seen = seen
        self._work: queue.SimpleQueue[_Settlement | _Reservation | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="studium-governor", daemon=True)
        self._thread.start()

    def reserve(self, want: Want) -> "Future[int | Refusal]":
        """Ask for a reservation. The future raises StoreUnavailable where the disk refuses. Never blocks."""
        promised: Future[int | Refusal] = Future()
        self._work.put(_Reservation(want, promised))
        return promised

    def settle(self, number: int, spent: Amount) -> None:
        """Book what a call cost, soon. Never blocks; what never reaches the disk counts as spent in full."""
        self._work.put(_Settlement(number, spent))

    def close(self) -> None:
        """Do what is left and end the thread."""
        self._work.put(None)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        owed: list[_Settlement] = []
        ending = False
        while not ending:
            batch, ending = self._next(RETRY_S if owed else LOOK_S)
            settlements = owed + [one for one in batch if isinstance(one, _Settlement)]
            # Once running, a future cannot be withdrawn any more: whoever gave up learns its number all the same.
            reservations = [
                one
                for one in batch
                if isinstance(one, _Reservation) and one.promised.set_running_or_notify_cancel()
            ]
            if not settlements and not reservations:
                self._glance()
                continue
            owed = self._turn(settlements, reservations)

    def _next(self, patience_s: float) -> tuple[list[_Settlement | _Reservation], bool]:
        """Return what there is to do, waiting for the first of it, and whether that was all."""
        batch: list[_Settlement | _Reservation] = []
        try:
            while len(batch) < MOST_A_TURN:
                one = self._work.get(timeout=0.0 if batch else patience_s)
                if one is None:
                    return batch, True
                batch.append(one)
        except queue.Empty:
            pass
        return batch, False

    def _turn(self, settlements: list[_Settlement], reservations: list[_Reservation]) -> list[_Settlement]:
        """Do one transaction; return the settlements that are still owed."""
        answers: list[int | Refusal] = []
        try:
            with self._spending.turn(durable=bool(reservations)) as turn:
                overrides = turn.overrides()
                caps = self._caps_of(overrides)
                for number, spent in settlements:
                    turn.settle(number, spent)
                for want, _ in reservations:
                    answers.append(turn.reserve(want, caps))
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                log.exception("the ledger of spending failed")
            for _, promised in reservations:
                promised.set_exception(error)
            return settlements
        self._seen(overrides)
        for (_, promised), answer in zip(reservations, answers, strict=True):
            promised.set_result(answer)
        return []

    def _glance(self) -> None:
        try:
            self._seen(self._spending.overrides())
        except Exception as error:
            log.debug("the governor's settings cannot be read: %s", error)
