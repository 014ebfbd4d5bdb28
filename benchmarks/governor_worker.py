"""One process of `benchmarks.governor`: many calls at once against one cap, until there is no room for another.

    python -m benchmarks.governor_worker SCHEME STORE CHARGES CAP_USD CALLS_AT_ONCE SEED

SCHEME is `reserve` (Studium's governor) or `check` (a cap that is checked before a call and recorded after it, as
gateways commonly do). What the provider charges is appended to CHARGES when a call is sent, whatever becomes of us.
Prints one line of JSON per call that was let in: the milliseconds it waited for that.
"""

import asyncio
import os
import random
import sqlite3
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from studium.config.schema import GovernorConfig, PriceConfig
from studium.errors import SpendingLimit
from studium.records.messages import Ask, Finish, Message, Reply, Sampling
from studium.records.models import ModelSpec
from studium.serve.governor.governor import Governor
from studium.store.database import open_database
from studium.store.spending import Spending

MODEL = ModelSpec("paid", "cloud", "large")
PRICE = PriceConfig(0.0, 10.0)
MOST_TOKENS = 1_000
MOST_USD = MOST_TOKENS * PRICE.completion_usd_per_million / 1e6
ASK = Ask(messages=(Message("user", "hello"),), sampling=Sampling(max_tokens=MOST_TOKENS), timeout_s=30.0)
CALL_S = (0.01, 0.05)
# Room may come back when others settle: who is refused asks again this often before it gives up.
PATIENCE, PAUSE_S = 20, 0.05

Call = Callable[[int], "AsyncIterator[None]"]


@asynccontextmanager
async def reserving(store: Path, cap_usd: float) -> AsyncIterator[Call]:
    """Calls let in by the governor."""
    database = open_database(store)
    spending = Spending(database)
    governor = Governor(spending, GovernorConfig(usd_per_day=cap_usd), {"cloud": {"large": PRICE}})
    governor.start()

    @asynccontextmanager
    async def call(tokens: int) -> AsyncIterator[None]:
        allowance = governor.allow("paid", MODEL, ASK)
        async with allowance:
            yield
            allowance.got(Reply("said", Finish.STOP, seconds=0.0, prompt_tokens=5, completion_tokens=tokens))

    try:
        yield call
    finally:
        governor.close()
        spending.close()
        database.dispose()


@asynccontextmanager
async def checking(store: Path, cap_usd: float) -> AsyncIterator[Call]:
    """Calls let in by what was recorded so far: read, call, record."""

    def connected() -> sqlite3.Connection:
        connection = sqlite3.connect(store, timeout=10.0, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS spent (usd REAL)")
        return connection

    def spent() -> float:
        with connected() as connection:
            return connection.execute("SELECT COALESCE(SUM(usd), 0) FROM spent").fetchone()[0]

    def record(usd: float) -> None:
        with connected() as connection:
            connection.execute("INSERT INTO spent VALUES (?)", (usd,))

    @asynccontextmanager
    async def call(tokens: int) -> AsyncIterator[None]:
        if await asyncio.to_thread(spent) + MOST_USD > cap_usd:
            raise SpendingLimit("the cap is reached")
        yield
        await asyncio.to_thread(record, tokens * PRICE.completion_usd_per_million / 1e6)

    connected().close()
    yield call


SCHEMES = {"reserve": reserving, "check": checking}


async def spend(call: Call, charges: int, rng: random.Random) -> None:
    """Make calls one after the other until there is no more room."""
    refused = 0
    while refused < PATIENCE:
        tokens, began = rng.randint(MOST_TOKENS // 10, MOST_TOKENS), time.perf_counter()
        try:
            async with call(tokens):
                waited_ms = (time.perf_counter() - began) * 1e3
                os.write(charges, struct.pack("q", tokens))
                print(f"{waited_ms:.3f}", flush=True)
                await asyncio.sleep(rng.uniform(*CALL_S))
            refused = 0
        except SpendingLimit:
            refused += 1
            await asyncio.sleep(PAUSE_S)


async def main(scheme: str, store: str, charges: str, cap_usd: str, at_once: str, seed: str) -> None:
    rng = random.Random(int(seed))
    file = os.open(charges, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with SCHEMES[scheme](Path(store), float(cap_usd)) as call:
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(spend(call, file, rng) for _ in range(int(at_once))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
