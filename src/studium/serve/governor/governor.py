"""Lets calls be made, or not: reserves the most a call can cost before it, and settles what it did cost after it.

The governor is the fleet's purse, so no call of any student goes around it. A paid call is always reserved, so
that a cap set later knows of it; time on a GPU only where it is capped, and what costs nothing touches no disk.
Caps and their windows are the ledger's (`store.spending`), prices and settings are here. Design 4.6.
"""

import asyncio
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any, NamedTuple

from studium.config.schema import GovernorConfig, PriceConfig
from studium.errors import CallerError, ConfigurationError, OperatorError, SpendingLimit, StudiumError
from studium.fleet.fleet import TEMPLATE_TOKENS
from studium.fleet.purse import Allowance, Bill, Charge, Unlimited
from studium.records.messages import Ask, Embeddings, Reply
from studium.records.models import ModelSpec
from studium.records.spending import CAPS, MILLISECONDS, NOTHING, Amount, Change, Refusal, Usage, Want
from studium.serve.governor import settings
from studium.serve.governor.settings import Setting
from studium.store.spending import Spending
from studium.store.teller import Teller

# A dollar per million tokens is a thousand billionths of a dollar per token.
_NANOUSD_PER_TOKEN = 1_000
# English has about four characters to a token.
USUAL_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the governor stands: settings and their sources, how far caps are used, what sessions have spent.

    `assumed` is what was booked within a day for calls whose owner died before it could say what they cost.
    """

    settings: tuple[Setting, ...]
    usage: tuple[Usage, ...]
    sessions: tuple[tuple[str, Amount], ...]
    assumed: Amount
    changes: tuple[Change, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, for `/api/config/governor` and `studium governor --json`."""
        sources = {one.name: one.source for one in self.settings}
        usage = [
            {
                "name": use.name,
                "cap": use.cap,
                "spent": use.spent,
                "reserved": use.reserved,
                "left": use.left,
                "free_in_s": use.free_in_s,
                "source": sources[use.name],
            }
            for use in self.usage
        ]
        return {
            "settings": {one.name: one.value for one in self.settings},
            "sources": sources,
            "usage": usage,
            "sessions": [
                {"session": name, "usd": spent.usd, "gpu_s": spent.gpu_s} for name, spent in self.sessions
            ],
            "assumed": {"usd": self.assumed.usd, "gpu_s": self.assumed.gpu_s},
            "changes": [asdict(change) for change in self.changes],
        }


class _Cost(NamedTuple):
    """The most a call costs, the ask it is then made with, and its price; `capped` if its length was cut."""

    most: Amount
    ask: Ask
    price: PriceConfig | None
    capped: bool


class Governor:
    """What may be spent in one workspace. Open with `start`, end with `close`."""

    def __init__(
        self,
        spending: Spending,
        configured: GovernorConfig,
        paid: Mapping[str, Mapping[str, PriceConfig]] | None = None,
    ) -> None:
        """`paid` maps each engine whose models may cost money to their prices, by source."""
        self._spending = spending
        self._configured = configured
        self._paid = paid or {}
        self._bills = map(f"{secrets.token_hex(8)}-{{}}".format, count())
        self._teller: Teller | None = None
        self._overrides: Mapping[str, str] = {}
        self.settings = configured

    def start(self) -> None:
        """Read what was changed at run time, and keep an eye on it. Blocks briefly."""
        self._seen(self._spending.overrides())
        if self._paid:
            with self._spending.turn(durable=False):  # soon after a reboot, the wall clock may be believed
                pass
        self._teller = Teller(self._spending, self._caps, seen=self._seen)

    def close(self) -> None:
        """Settle what is owed. Blocks for the disk."""
        if self._teller is not None:
            self._teller.close()

    def bill(self, session: str = "") -> Bill:
        """Return a new bill: one for each question."""
        return Bill(next(self._bills), session)

    def allow(
        self, student: str, model: ModelSpec, ask: Ask, *, bill: Bill | None = None, on_gpu: bool = False
    ) -> Allowance:
        """Return the allowance of a call (`fleet.purse`). Entering it raises SpendingLimit or StoreUnavailable.

        Entering waits for the disk, though not in the event loop's thread; without a cost, for nothing.
        """
        bill = bill or self.bill()
        cost = self._cost(student, model, ask, bill, on_gpu=on_gpu)
        if not cost.most:
            return Unlimited(ask)
        return _Governed(
            self, Want(student, bill.request, bill.session, cost.most, ask.timeout_s), cost, bill
        )

    def is_paid(self, model: ModelSpec) -> bool:
        """Say whether asking a model may cost money."""
        return model.engine in self._paid

    def has_price(self, model: ModelSpec) -> bool:
        """Say whether the configuration tells what a paid model costs."""
        return model.source in self._paid[model.engine]

    def foreseen_usd(self, model: ModelSpec, question: str, completion_tokens: float) -> float | None:
        """Return what a call of a paid model would usually cost in US dollars; None where its price is not known.

        For choosing: nothing is reserved or counted here.
        """
        price = self._paid[model.engine].get(model.source)
        if price is None:
            return None
        prompt_tokens = TEMPLATE_TOKENS + len(question) // USUAL_CHARACTERS_PER_TOKEN
        return nanousd_of(price, prompt_tokens, round(completion_tokens)) / 1e9

    def told(self, bill: Bill) -> dict[str, Any]:
        """Return the governor's effect on a question, for its answer; empty where it had none.

        `assumed_usd` is the part of `spent_usd` that is not known but counted; `shortened` maps students to the
        most tokens they were allowed, where the caller had set no limit.
        """
        notes: dict[str, Any] = {} if self.settings.refinement else {"refinement": False}
        if self.settings.force_arbiter:
            notes["force_arbiter"] = True
        return notes | (_effect(bill, self.settings) if bill.charges else {})

    def standing(self) -> Standing:
        """Return where it stands. Blocks for the disk."""
        changes = tuple(self._spending.changes())
        with self._spending.turn(durable=False) as turn:
            overrides = turn.overrides()
            return Standing(
                tuple(settings.listed(self._configured, overrides)),
                tuple(turn.usage(self._caps(overrides))),
                tuple(turn.sessions()),
                turn.assumed(),
                changes,
            )

    def change(self, values: Mapping[str, object], *, reset: Sequence[str] = (), by: str) -> None:
        """Change settings, all or none, on disk when it returns; None or "none" lifts a cap. Raises BadRequest.

        Those named in `reset` go back to what the configuration says. Blocks for the disk. Calls that are
        reserved already go on.
        """
        texts: dict[str, str | None] = {settings.known(name): None for name in reset}
        texts |= {name: settings.text_of(name, value) for name, value in values.items()}
        with self._spending.turn() as turn:
            for name, text in texts.items():
                turn.change(name, text, by=by, at=time.time())
            overrides = turn.overrides()
        self._seen(overrides)

    def _seen(self, overrides: Mapping[str, str]) -> None:
        if overrides != self._overrides:
            self._overrides = dict(overrides)
            self.settings = settings.in_force(self._configured, overrides)

    def _caps(self, overrides: Mapping[str, str]) -> Mapping[str, int | None]:
        return settings.caps_of(settings.in_force(self._configured, overrides))

    def _cost(self, student: str, model: ModelSpec, ask: Ask, bill: Bill, *, on_gpu: bool) -> _Cost:
        if model.engine in self._paid:
            return self._price(student, model, ask, bill)
        if on_gpu and any(getattr(self.settings, cap) is not None for cap in CAPS if cap.startswith("gpu")):
            return _Cost(Amount(gpu_ms=_milliseconds(ask.timeout_s)), ask, None, capped=False)
        return _Cost(NOTHING, ask, None, capped=False)

    def _price(self, student: str, model: ModelSpec, ask: Ask, bill: Bill) -> _Cost:
        capped = any(getattr(self.settings, cap) is not None for cap in CAPS if cap.startswith("usd"))
        price = self._paid[model.engine].get(model.source)
        if price is None:
            if capped:
                raise self.refused(bill, student, _unknown_price(model))
            return _Cost(NOTHING, ask, None, capped=False)
        unbounded = ask.sampling.max_tokens is None and not model.embeddings
        most_tokens = 0 if model.embeddings else ask.sampling.max_tokens or self.settings.max_tokens
        if unbounded and capped:
            ask = replace(ask, sampling=replace(ask.sampling, max_tokens=most_tokens))
        most = nanousd_of(price, prompt_tokens_at_most(ask), most_tokens)
        return _Cost(Amount(nanousd=most), ask, price, unbounded and capped)

    def refused(self, bill: Bill, student: str, error: SpendingLimit) -> SpendingLimit:
        """Note a refusal on the bill, and return it to be raised."""
        bill.charges.append(Charge(student, refused=error.happened))
        return error

    async def reserve(self, want: Want) -> int | Refusal:
        """Reserve what a call may cost; whoever is cancelled meanwhile gets nothing and owes nothing."""
        promised = self._working().reserve(want)
        try:
            return await asyncio.wrap_future(promised)
        except asyncio.CancelledError:
            promised.add_done_callback(self._give_back)
            raise

    def settle(self, number: int, spent: Amount) -> None:
        """Book what a call cost."""
        self._working().settle(number, spent)

    def _give_back(self, promised: "Future[int | Refusal]") -> None:
        with suppress(BaseException):
            if isinstance(number := promised.result(), int):
                self.settle(number, NOTHING)

    def _working(self) -> Teller:
        assert self._teller is not None, "a governor is started before it is asked"
        return self._teller


class _Governed:
    """The allowance of a call that costs something."""

    def __init__(self, governor: Governor, want: Want, cost: _Cost, bill: Bill) -> None:
        self._governor = governor
        self._want = want
        self._cost = cost
        self._bill = bill
        self._number = 0
        self._began = 0.0
        self._nanousd: int | None = None
        self._got = False
        self.ask = cost.ask

    async def __aenter__(self) -> "_Governed":
        answer = await self._governor.reserve(self._want)
        if isinstance(answer, Refusal):
            raise self._governor.refused(self._bill, self._want.student, _too_much(self._want, answer))
        self._number, self._began = answer, time.monotonic()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Settle without waiting: what never reaches the disk counts as spent in full."""
        most, nanousd, assumed = self._want.most, 0, False
        if most.nanousd and not (isinstance(error, StudiumError) and was_never_sent(error)):
            nanousd, assumed = (most.nanousd, True) if self._nanousd is None else (self._nanousd, False)
        gpu_ms = _milliseconds(time.monotonic() - self._began) if most.gpu_ms else 0
        spent = Amount(nanousd, gpu_ms)
        self._governor.settle(self._number, spent)
        tokens = self.ask.sampling.max_tokens if self._cost.capped else None
        charge = Charge(self._want.student, most, spent, assumed=assumed, capped_tokens=tokens)
        self._bill.charges.append(charge)

    def got(self, reply: Reply | Embeddings) -> None:
        completion = 0 if isinstance(reply, Embeddings) else reply.completion_tokens
        if self._cost.price is not None and reply.prompt_tokens is not None and completion is not None:
            self._nanousd = nanousd_of(self._cost.price, reply.prompt_tokens, completion)


def prompt_tokens_at_most(ask: Ask) -> int:
    """Return more tokens than an ask's prompt can have: no text has more tokens than bytes."""
    texts = [message.content for message in ask.messages] + [ask.prompt or "", str(ask.json_schema or "")]
    return sum(len(text.encode()) + TEMPLATE_TOKENS for text in texts)


def nanousd_of(price: PriceConfig, prompt_tokens: int, completion_tokens: int) -> int:
    """Return what so many tokens cost, in billionths of a dollar, rounded up."""
    prompt = prompt_tokens * price.prompt_usd_per_million
    return math.ceil(
        round((prompt + completion_tokens * price.completion_usd_per_million) * _NANOUSD_PER_TOKEN, 3)
    )


def was_never_sent(error: StudiumError) -> bool:
    """Say whether a failed call surely cost nothing: it was not sent, or the server turned it away at the door.

    In doubt, no: a time-out, a connection that broke, a server that failed over it may all be charged.
    """
    from aiohttp import ClientConnectorError

    status = getattr(error, "status", None)
    if status is not None:
        return 400 <= status < 500 or status == 503
    at_the_door = isinstance(error.__cause__, ClientConnectorError)
    return at_the_door or isinstance(error, CallerError | OperatorError | ConfigurationError)


def _effect(bill: Bill, settings: GovernorConfig) -> dict[str, Any]:
    paid = [charge for charge in bill.charges if not charge.refused]
    return {
        "caps": {cap: value for cap in CAPS if (value := getattr(settings, cap)) is not None},
        "reserved_usd": sum(charge.reserved.usd for charge in paid),
        "spent_usd": sum(charge.spent.usd for charge in paid),
        "assumed_usd": sum(charge.spent.usd for charge in paid if charge.assumed),
        "spent_gpu_s": sum(charge.spent.gpu_s for charge in paid),
        "refused": [
            {"student": charge.student, "why": charge.refused} for charge in bill.charges if charge.refused
        ],
        "shortened": {charge.student: charge.capped_tokens for charge in paid if charge.capped_tokens},
    }


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * MILLISECONDS))


def _unknown_price(model: ModelSpec) -> SpendingLimit:
    return SpendingLimit(
        f"{model.name} was not asked: the price of {model.source} is not known, and spending is capped",
        expected=f"its price under engines.{model.engine}.prices",
        try_next="write it there, 0 for a model that costs nothing, or lift the caps: studium governor set",
    )


def _too_much(want: Want, refusal: Refusal) -> SpendingLimit:
    first = max(refusal.caps, key=lambda use: use.free_in_s or math.inf, default=None)
    if first is None:  # the room came while we looked
        return SpendingLimit(f"{want.student} was not asked: a cap was reached", try_next="ask again")
    asked = want.most.usd if first.name.startswith("usd") else want.most.gpu_s
    when = (
        f"wait {_duration(first.free_in_s)}, or "
        if first.free_in_s is not None
        else "wait for the calls under way, or "
        if first.cap is not None and first.spent + asked <= first.cap
        else ""
    )
    money = first.name.startswith("usd")
    shorter = "ask for a shorter answer (max_tokens), or " if money else ""
    return SpendingLimit(
        f"{want.student} was not asked: it may cost up to {_worth(asked, money)}, and {first.name} is "
        f"{_worth(first.cap or 0.0, money)}, of which {_worth(first.spent, money)} is spent and "
        f"{_worth(first.reserved, money)} reserved for calls under way",
        expected=f"at most {_worth(first.left or 0.0, money)} more",
        try_next=f"{when}{shorter}raise it: studium governor set {first.name}={_enough(first, asked):g}",
    )


def _enough(use: Usage, asked: float) -> float:
    """Return a cap that would do, rounded up to two digits."""
    need = use.spent + use.reserved + asked
    step = 10.0 ** (math.floor(math.log10(need)) - 1) if need > 0 else 1.0
    return math.ceil(need / step) * step


def _worth(value: float, money: bool) -> str:
    return f"{value:.4g} USD" if money else f"{value:.4g} s of GPU time"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 7200 else f"{math.ceil(seconds / 3600)} h"
