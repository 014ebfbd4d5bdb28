"""Posts many requests to a model server at a time, from code that waits for all of them.

Training is one thread that does one thing after the other; the requests of a draw run side by side in a loop of their
own, which lives as long as the asker: processes it started belong to it.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp

from studium.engines.http_errors import http_error
from studium.engines.openai_client import fetch_json
from studium.errors import EngineDied, EngineTimeout

Found = TypeVar("Found")


class Asker:
    """`at_once` requests are under way at a time, each of which may take `timeout_s`."""

    def __init__(self, at_once: int, timeout_s: float) -> None:
        self._at_once, self._timeout_s = at_once, timeout_s
        self._runner = asyncio.Runner()

    def wait(self, work: Coroutine[Any, Any, Found], timeout_s: float | None = None) -> Found:
        """Run something in the loop to its end; raises TimeoutError after `timeout_s`."""
        return self._runner.run(asyncio.wait_for(work, timeout_s or self._timeout_s))

    def ask(
        self, url: str, bodies: Sequence[Mapping[str, Any] | None], *, name: str, headers: Mapping[str, str]
    ) -> list[Any]:
        """Post every body (get, where it is None) and return the answers in order; the first error ends them all.

        Raises EngineFailure or what else `openai_client.fetch_json` raises.
        """
        return self._runner.run(self._ask(url, bodies, name, headers))

    async def _ask(
        self, url: str, bodies: Sequence[Mapping[str, Any] | None], name: str, headers: Mapping[str, str]
    ) -> list[Any]:
        gate = asyncio.Semaphore(self._at_once)
        # A kept connection would hold one of llama-server's few HTTP threads while it idles.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)

        async def one(body: Mapping[str, Any] | None) -> Any:
            async with gate:
                return await fetch_json(
                    session, url, body, model=name, timeout_s=self._timeout_s, headers=headers
                )

        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(body)) for body in bodies]
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    def say(self, url: str, body: Mapping[str, Any], *, name: str, headers: Mapping[str, str]) -> None:
        """Post a body whose answer's text does not matter; raises as `ask` does."""
        self._runner.run(self._say(url, body, name, headers))

    async def _say(self, url: str, body: Mapping[str, Any], name: str, headers: Mapping[str, str]) -> None:
        limit = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(url, json=body, headers=headers) as answer,
            ):
                if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                    raise http_error(name, answer.status, await answer.read(), answer.headers)
        except TimeoutError as late:
            raise EngineTimeout(f"{name}: no answer within {self._timeout_s:g} s from {url}") from late
        except aiohttp.ClientError as gone:
            raise EngineDied(
                f"{name}: {url} cannot be reached: {gone}", try_next="start the server"
            ) from gone

    def close(self) -> None:
        self._runner.close()
