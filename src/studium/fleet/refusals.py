"""What is said when a model finds no place: what it needs, what is in the way, what would fit (SES-10)."""

from collections.abc import Callable
from dataclasses import replace

from studium.errors import DoesNotFit, EngineTimeout, StudiumError
from studium.fleet.limits import difference
from studium.fleet.situation import TenantState
from studium.fleet.tenancy import LEASE, House, Housed, WaitingAsk
from studium.records.models import MemoryEstimate, ModelSpec

MIB = 2**20


def mib(size: float) -> str:
    return f"{size / MIB:,.0f} MiB"


def in_the_way(house: House, now: float, *, but: str = "") -> str:
    """Say who holds the memory: models and whether they are in use, other programs, what was not given back."""
    parts = [_tenant(one, now) for one in house.tenants.values() if one.bytes and one.name != but]
    parts += [
        f"{kept.model.name}'s engine still holds {mib(kept.bytes)} that it said it gave back"
        for kept in house.kept.values()
    ]
    for home in house.limits.homes:
        if taken := house.taken.get(home.name, 0):
            of = f" of {home.name}" if len(house.limits.homes) > 1 else ""
            parts.append(f"other programs hold {mib(taken)} of the {mib(home.bytes)} budget{of}")
    others = sum(1 for ask in house.waiting.values() if ask.model.name != but)
    if others:
        parts.append(f"{others} other ask{'s wait' if others > 1 else ' waits'}")
    return "; ".join(parts) or "nothing holds memory now"


def too_late(house: House, ask: WaitingAsk, timeout_s: float, now: float) -> EngineTimeout:
    """Return the error of an ask that waited as long as it was ready to."""
    name = ask.model.name
    own = house.tenants.get(name)
    need = max(ask.needs.values(), default=0)
    wants = f"it needs {mib(need)}; " if need and own is None else ""
    if own is not None and own.state is TenantState.LOADING:
        wants = f"it was still loading after {now - own.idle_since:.0f} s; "
    elif own is not None and own.in_flight:
        wants = f"all its places are in use, by {_asks(own.in_flight)}; "
    return EngineTimeout(
        f"{name} got no place in memory within {timeout_s:.0f} s: {wants}{in_the_way(house, now, but=name)}",
        expected="a place within the limit",
        try_next=_advice(house),
    )


def never_fits(
    house: House,
    model: ModelSpec,
    needed: int,
    largest: int,
    estimate: MemoryEstimate | None,
    known: Callable[[], dict[str, int]],
) -> DoesNotFit:
    """Return the refusal of a model that no device could ever hold; `known` are other models' needs."""
    whole = "the whole budget is" if len(house.limits.homes) == 1 else "the largest device's budget is"
    if model.engine == LEASE:
        return DoesNotFit(
            f"the lease {model.source} needs {mib(needed)}, {whole} {mib(largest)}",
            expected=f"at most {mib(largest)}",
            try_next=f"ask for {largest // MIB}MiB or less, or raise fleet.memory_budget in studium.yaml",
        )
    fitting = {name: size for name, size in known().items() if 0 < size <= largest and name != model.name}
    would_fit = [_smaller(model, needed, largest, estimate)]
    if fitting:
        would_fit.append(
            "models that fit: " + ", ".join(f"{name} ({mib(size)})" for name, size in sorted(fitting.items()))
        )
    hint = "; ".join(part for part in would_fit if part)
    return DoesNotFit(
        f"{model.name} needs {mib(needed)}, {whole} {mib(largest)}",
        expected="a budget that holds at least the one model" + (f"; {hint}" if hint else ""),
        try_next=f"raise it (--memory-budget {-(-needed // MIB)}MiB, or fleet.memory_budget in studium.yaml), "
        "or choose a smaller model, context_tokens or slots; see: studium doctor",
    )


def out_of_memory(
    house: House, tenant: Housed, error: StudiumError, smaller: ModelSpec | None, now: float
) -> DoesNotFit:
    """Return the refusal of a model whose load ran out of memory, also in the smaller shape if there was one."""
    tried = f", also with {tenant.note}" if tenant.note else ""
    left = ""
    if smaller is not None:
        left = f"; smaller still, if you declare it, is {difference(tenant.model, smaller)}"
    elif not tenant.note:
        left = "; the asks that wait need its whole context, and it has one slot"
    return DoesNotFit(
        f"{tenant.name} ran out of memory while it loaded, with {mib(tenant.bytes)} set aside{tried}: "
        f"{error.happened}",
        expected=f"memory for the model; in the way: {in_the_way(house, now, but=tenant.name)}{left}",
        try_next="end other programs, lower the model's context_tokens or slots in studium.yaml, or choose "
        "a smaller model; see: studium doctor",
    )


def too_long_for_smaller_shape(declared: ModelSpec, actual: ModelSpec, error: StudiumError) -> DoesNotFit:
    """Return the error of an ask that would have fitted the model as it was declared."""
    return DoesNotFit(
        f"{declared.name} runs with {difference(declared, actual)} since its load ran out of memory, and "
        f"{error.happened}",
        expected=f"room for its {declared.context_tokens:,} tokens of context",
        try_next="free memory and ask again in ten minutes, or restart Studium",
    )


def _tenant(tenant: Housed, now: float) -> str:
    holds = f"{tenant.name} holds {mib(tenant.bytes)}"
    if tenant.model.engine == LEASE:
        name = tenant.name.partition(":")[2]
        holds = f"the run {name} holds {mib(tenant.bytes)}"
        if tenant.left_at is not None:
            return f"{holds} and was asked to give way {now - tenant.left_at:.0f} s ago"
        return holds
    if tenant.state is not TenantState.RESIDENT:
        return f"{holds} ({tenant.state.value})"
    if tenant.in_flight:
        return f"{holds} and is in use by {_asks(tenant.in_flight)}"
    return f"{holds} and is idle"


def _asks(number: int) -> str:
    return f"{number} ask{'s' if number > 1 else ''}"


def _smaller(model: ModelSpec, needed: int, largest: int, estimate: MemoryEstimate | None) -> str:
    """Say which smaller shape would fit, from how much of the need is the context."""
    if estimate is None or not estimate.kv_cache_bytes:
        return ""
    shapes = [replace(model, slots=1)] if model.slots > 1 else []
    shapes += [
        replace(model, slots=1, context_tokens=model.context_tokens // part)
        for part in (2, 4, 8)
        if model.context_tokens // part >= 256
    ]
    for shape in shapes:
        share = shape.slots * shape.context_tokens / (model.slots * model.context_tokens)
        need = needed - round(estimate.kv_cache_bytes * (1 - share))
        if need <= largest:
            return f"with slots: {shape.slots} and context_tokens: {shape.context_tokens} it needs about {mib(need)}"
    return ""


def _advice(house: House) -> str:
    if any(house.taken.values()):
        return "end other programs that hold memory (see: studium doctor), or ask fewer students at once"
    return "raise the limit or fleet.memory_budget, or ask fewer students at once; see: studium doctor"
