"""What every engine does, whatever is behind it. `engines.py` says which ones are tried."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from tests.contracts.engines import BENCHES, Bench

from studium.engines.protocol import Engine, complete
from studium.errors import EngineTimeout, ModelBroken, PromptTooLong, StudiumError, UnknownModel, Unsupported
from studium.records.messages import Ask, Finish, Piece, Reply, Sampling
from studium.records.models import ModelSpec

T = TypeVar("T")
LOAD_S = 60.0


@pytest.fixture(params=list(BENCHES))
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Bench, None]:
    async with BENCHES[request.param](tmp_path) as bench:
        yield bench
        await bench.engine.close()


@pytest.fixture
async def loaded(bench: Bench) -> Bench:
    await bench.engine.load(bench.good, timeout_s=LOAD_S)
    return bench


def needs(case: T | None) -> T:
    if case is None:
        pytest.skip("this engine has no such case")
    return case


async def heard(engine: Engine, model: ModelSpec, ask: Ask) -> list[Piece | Reply]:
    async with aclosing(engine.generate(model, ask)) as stream:
        return [part async for part in stream]


async def names(engine: Engine) -> list[str]:
    return sorted(residence.model for residence in await engine.residences())


def with_sampling(ask: Ask, **changes: object) -> Ask:
    return replace(ask, sampling=replace(ask.sampling, **changes))  # type: ignore[arg-type]


async def test_an_engine_fits_the_protocol(bench: Bench) -> None:
    assert isinstance(bench.engine, Engine)
    assert bench.engine.name == bench.good.engine


async def test_loading_twice_makes_one_residence(bench: Bench) -> None:
    first = await bench.engine.load(bench.good, timeout_s=LOAD_S)
    second = await bench.engine.load(bench.good, timeout_s=LOAD_S)
    assert (first.model, first.pid) == (second.model, second.pid) == (bench.good.name, first.pid)
    assert await names(bench.engine) == [bench.good.name]


async def test_concurrent_loads_of_one_model_join(bench: Bench) -> None:
    loads = [bench.engine.load(bench.good, timeout_s=LOAD_S) for _ in range(4)]
    residences = await asyncio.gather(*loads)
    assert len({residence.pid for residence in residences}) == 1
    assert await names(bench.engine) == [bench.good.name]


async def test_unloading_frees_and_may_be_repeated(loaded: Bench) -> None:
    await loaded.engine.unload(loaded.good)
    assert await names(loaded.engine) == []
    await loaded.engine.unload(loaded.good)


async def test_a_model_unloaded_can_be_loaded_again(loaded: Bench) -> None:
    await loaded.engine.unload(loaded.good)
    await loaded.engine.load(loaded.good, timeout_s=LOAD_S)
    assert (await complete(loaded.engine, loaded.good, loaded.ask)).text


async def test_a_cancelled_load_leaves_nothing(bench: Bench) -> None:
    load = asyncio.create_task(bench.engine.load(bench.good, timeout_s=LOAD_S))
    await asyncio.sleep(0)  # it has begun
    load.cancel()
    with suppress(asyncio.CancelledError):
        await load
    assert load.cancelled()
    assert await names(bench.engine) == []


async def test_an_unknown_model_is_named_so(bench: Bench) -> None:
    with pytest.raises(UnknownModel, match="."):
        await bench.engine.load(bench.unknown, timeout_s=LOAD_S)
    assert await names(bench.engine) == []


async def test_a_broken_model_is_named_so_and_the_engine_goes_on(bench: Bench) -> None:
    with pytest.raises(ModelBroken):
        await bench.engine.load(needs(bench.broken), timeout_s=LOAD_S)
    assert await names(bench.engine) == []
    await bench.engine.load(bench.good, timeout_s=LOAD_S)


async def test_estimates_cost_no_load_and_cover_what_is_measured(bench: Bench) -> None:
    if not bench.engine.capabilities.manages_memory:
        pytest.skip("its models occupy no memory of ours")
    estimate = await bench.engine.estimate(bench.good)
    assert await names(bench.engine) == []
    await bench.engine.load(bench.good, timeout_s=LOAD_S)
    await complete(bench.engine, bench.good, bench.long)
    (residence,) = await bench.engine.residences()
    assert residence.resident_bytes is None or residence.resident_bytes <= estimate.total_bytes
    assert residence.peak_bytes is None or residence.peak_bytes <= estimate.total_bytes


async def test_pieces_come_first_and_one_reply_joins_them(loaded: Bench) -> None:
    *pieces, reply = await heard(loaded.engine, loaded.good, loaded.long)
    assert isinstance(reply, Reply)
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert len(pieces) > 1
    assert reply.text == "".join(piece.text for piece in pieces)
    assert reply.first_token_s is not None
    assert 0 < reply.first_token_s <= reply.seconds


async def test_tokens_are_counted(loaded: Bench) -> None:
    reply = await complete(loaded.engine, loaded.good, with_sampling(loaded.ask, max_tokens=5))
    if not loaded.counts_tokens:
        assert (reply.prompt_tokens, reply.completion_tokens) == (None, None)
        return
    assert reply.completion_tokens == 5
    assert reply.prompt_tokens is not None
    assert reply.prompt_tokens > 0


async def test_max_tokens_ends_with_length(loaded: Bench) -> None:
    short = await complete(loaded.engine, loaded.good, with_sampling(loaded.ask, max_tokens=4))
    longer = await complete(loaded.engine, loaded.good, with_sampling(loaded.ask, max_tokens=12))
    assert short.finish is Finish.LENGTH
    assert len(short.text) < len(longer.text)


async def test_a_stop_string_ends_the_answer_before_itself(loaded: Bench) -> None:
    if not loaded.seeded:
        pytest.skip("needs the same answer twice")
    whole = await complete(loaded.engine, loaded.good, loaded.ask)
    stop = next(char for char in whole.text[2:] if char.isascii() and char.isprintable())
    stopped = await complete(loaded.engine, loaded.good, with_sampling(loaded.ask, stop=(stop,)))
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.finish is Finish.STOP


async def test_equal_seeds_give_equal_answers(loaded: Bench) -> None:
    if not loaded.seeded:
        pytest.skip("seeds are not honoured")
    first = await complete(loaded.engine, loaded.good, loaded.ask)
    again = await complete(loaded.engine, loaded.good, loaded.ask)
    assert first.text == again.text


async def test_a_raw_prompt_is_continued(loaded: Bench) -> None:
    ask = Ask(prompt="Once upon", sampling=Sampling(max_tokens=8, seed=3), timeout_s=20.0)
    assert (await complete(loaded.engine, loaded.good, ask)).text


async def test_closing_a_stream_early_frees_the_model_for_the_next_ask(loaded: Bench) -> None:
    stream = loaded.engine.generate(loaded.good, loaded.long)
    await anext(stream)
    await stream.aclose()
    reply = await complete(loaded.engine, loaded.good, replace(loaded.ask, timeout_s=5.0))
    assert reply.text
    assert await names(loaded.engine) == [loaded.good.name]


async def test_two_slots_answer_two_asks_at_once(loaded: Bench) -> None:
    if not loaded.slots_in_parallel:
        pytest.skip("one answer at a time")
    slow = loaded.engine.generate(loaded.good, loaded.long)
    await anext(slow)
    quick = await complete(loaded.engine, loaded.good, with_sampling(loaded.ask, max_tokens=4))
    assert quick.finish is Finish.LENGTH
    assert isinstance(await anext(slow), Piece)
    await slow.aclose()


async def test_more_asks_than_slots_are_all_answered(loaded: Bench) -> None:
    asks = [with_sampling(loaded.ask, seed=seed) for seed in range(8)]
    replies = await asyncio.gather(*(complete(loaded.engine, loaded.good, ask) for ask in asks))
    assert len(replies) == 8
    assert all(reply.text for reply in replies)


async def test_a_late_answer_is_a_timeout_and_the_model_stays_usable(loaded: Bench) -> None:
    with pytest.raises(EngineTimeout):
        await complete(loaded.engine, loaded.good, replace(loaded.long, timeout_s=0.05))
    assert (await complete(loaded.engine, loaded.good, loaded.ask)).text


async def test_a_prompt_beyond_the_context_is_refused_and_never_cut(loaded: Bench) -> None:
    with pytest.raises(PromptTooLong):
        await complete(loaded.engine, loaded.good, needs(loaded.too_long))


async def test_log_probabilities_are_given_or_refused(loaded: Bench) -> None:
    ask = replace(loaded.ask, top_logprobs=2)
    if not loaded.engine.capabilities.logprobs:
        with pytest.raises(Unsupported):
            await complete(loaded.engine, loaded.good, ask)
        return
    *pieces, reply = await heard(loaded.engine, loaded.good, ask)
    assert isinstance(reply, Reply)
    assert reply.logprobs
    assert reply.logprobs == tuple(entry for piece in pieces for entry in piece.logprobs)
    assert all(entry.logprob <= 0 and len(entry.top) == 2 for entry in reply.logprobs)


async def test_log_probabilities_of_the_chosen_tokens_alone(loaded: Bench) -> None:
    if not loaded.engine.capabilities.logprobs:
        pytest.skip("no log-probabilities")
    reply = await complete(loaded.engine, loaded.good, replace(loaded.ask, top_logprobs=0))
    assert reply.logprobs
    assert all(entry.top == () for entry in reply.logprobs)


async def test_a_json_schema_is_obeyed_or_refused(loaded: Bench) -> None:
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    ask = replace(with_sampling(loaded.ask, max_tokens=200), json_schema=schema)
    if not loaded.engine.capabilities.json_schema:
        with pytest.raises(Unsupported):
            await complete(loaded.engine, loaded.good, ask)
        return
    reply = await complete(loaded.engine, loaded.good, ask)
    assert "".join(reply.text.split()).startswith('{"sure":')


async def test_a_grammar_is_obeyed_or_refused(loaded: Bench) -> None:
    ask = replace(loaded.ask, grammar='root ::= "yes" | "no"')
    if not loaded.engine.capabilities.grammar:
        with pytest.raises(Unsupported):
            await complete(loaded.engine, loaded.good, ask)
        return
    assert (await complete(loaded.engine, loaded.good, ask)).text in ("yes", "no")


async def test_embeddings_are_given_or_refused(loaded: Bench) -> None:
    if not loaded.engine.capabilities.embeddings:
        with pytest.raises(Unsupported):
            await loaded.engine.embed(loaded.good, ["one"])
        return
    model = needs(loaded.embedding)
    await loaded.engine.load(model, timeout_s=LOAD_S)
    embeddings = await loaded.engine.embed(model, ["one", "two", "one"])
    one, two, again = embeddings.vectors
    assert list(one) == pytest.approx(list(again), abs=1e-4)
    assert list(one) != pytest.approx(list(two), abs=1e-4)
    assert embeddings.prompt_tokens >= 0


async def test_adapters_change_the_model_or_are_refused(loaded: Bench) -> None:
    if not loaded.engine.capabilities.adapters:
        adapted = replace(loaded.good, name="adapted", adapters=("some.gguf",))
        with pytest.raises(Unsupported):
            await loaded.engine.load(adapted, timeout_s=LOAD_S)
        return
    model = needs(loaded.adapted)
    await loaded.engine.load(model, timeout_s=LOAD_S)
    plain = await complete(loaded.engine, loaded.good, with_sampling(loaded.ask, temperature=0.0))
    adapted = await complete(loaded.engine, model, with_sampling(loaded.ask, temperature=0.0))
    assert plain.text != adapted.text


async def test_what_the_model_was_not_loaded_for_is_refused(bench: Bench) -> None:
    model = needs(bench.embedding)
    await bench.engine.load(bench.good, timeout_s=LOAD_S)
    with pytest.raises(Unsupported):
        await bench.engine.embed(bench.good, ["one"])
    await bench.engine.load(model, timeout_s=LOAD_S)
    with pytest.raises(Unsupported):
        await complete(bench.engine, model, bench.ask)


async def test_a_schema_and_a_grammar_together_are_refused(loaded: Bench) -> None:
    ask = replace(loaded.ask, json_schema={"type": "object"}, grammar='root ::= "x"')
    with pytest.raises(StudiumError):
        await complete(loaded.engine, loaded.good, ask)


async def test_what_can_be_loaded_is_listed(bench: Bench) -> None:
    assert all(isinstance(source, str) for source in await bench.engine.models())


async def test_closing_ends_everything_and_may_be_repeated(loaded: Bench) -> None:
    await loaded.engine.close()
    assert await names(loaded.engine) == []
    await loaded.engine.close()
