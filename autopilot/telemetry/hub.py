"""One poll per tick for all watches: the number of queries does not grow with the number of rollouts.

Every subscription wakes at every tick, with what happened or with a `Gap`, so that its consumer can renew a lease
even when telemetry is silent. A consumer that is slow is handed the merged ticks: it neither holds up others nor
loses counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.model import Observation, ScrapedSource, Subject, TelemetryError, TelemetrySource
from autopilot.telemetry.ticks import Gap, HubTick, merge

SHORTEST_TICK = 0.5


class Feed:
    """What one subscriber sees: an endless iterator of ticks and gaps."""

    def __init__(self, subject: Subject, differencer: Differencer) -> None:
        self.subject = subject
        self._differencer = differencer
        self._pending: HubTick | Gap | None = None
        self._failure: Exception | None = None
        self._over = False
        self._ready = asyncio.Event()

    @property
    def boundaries(self) -> tuple[float, ...]:
        """The histogram bounds in use, in seconds, in the order asked; empty before any histogram was seen."""
        return self._differencer.boundaries

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> HubTick | Gap:
        await self._ready.wait()
        item, self._pending = self._pending, None
        if item is not None:
            if not self._over:
                self._ready.clear()
            return item
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    def take(self, observation: Observation) -> None:
        """Folds an observation; never waits."""
        self._offer(self._differencer.fold(observation))

    def pause(self, reason: str, now: float) -> None:
        """Says that this tick has nothing to show."""
        self._offer(Gap(time=now, silent_seconds=self._differencer.silent(now), reason=reason))

    def end(self, failure: Exception | None = None) -> None:
        """Ends the feed after what is still pending; with an error if there is one, for its consumer has to see it."""
        self._failure, self._over = failure, True
        self._ready.set()

    def _offer(self, item: HubTick | Gap) -> None:
        if isinstance(self._pending, HubTick):
            if isinstance(item, HubTick):
                self._pending = merge(self._pending, item)
        else:
            self._pending = item
        self._ready.set()


class Hub:
    """Shares one source among all who watch.

    Args:
        source: where counters come from.
        timeout: seconds after which a poll is given up.
        clock: seconds since the epoch; must be the clock of the observations' `time`.
    """

    def __init__(
        self, source: TelemetrySource, *, timeout: float = 10.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.source = source
        self._timeout = timeout
        self._clock = clock
        self._pollers: dict[float, _Poller] = {}

    @property
    def interval(self) -> float | None:
        """Seconds between two samples, where the source is scraped; None where it is read at every tick, or unknown."""
        return self.source.interval if isinstance(self.source, ScrapedSource) else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def subscribe(
        self,
        subject: Subject,
        *,
        canary: str,
        stable: str,
        baseline: str = "",
        boundaries: tuple[float, ...] = (),
        tick: float = 1.0,
    ) -> AsyncIterator[Feed]:
        """Watches one subject for as long as the context lasts.

        Args:
            subject: the service; its arms must name both versions.
            canary: the arm on trial.
            stable: the arm it is compared with.
            baseline: the arm that doubles stable for a fair comparison; empty where there is none.
            boundaries: latency boundaries in seconds, each moved to the nearest that the histograms have.
            tick: seconds between looks, at least 0.5.

        Yields:
            The feed: iterate over it. Its first item is a gap, for one reading alone compares with nothing.

        Raises:
            ValueError: the tick is too short, or the subject lacks one of the arms.
        """
        if tick < SHORTEST_TICK:
            raise ValueError(f"a tick of {tick:g} s is too short; {SHORTEST_TICK:g} s is the minimum")
        if absent := {canary, stable, baseline or stable} - set(subject.arms):
            raise ValueError(f"{subject.namespace}/{subject.service} has no arm {', '.join(sorted(absent))}")
        feed = Feed(subject, Differencer(canary, stable, tuple(boundaries), baseline=baseline))
        poller = self._pollers.get(tick)
        if poller is None or poller.over:
            poller = self._pollers[tick] = _Poller(self.source, tick, self._timeout, self._clock)
        poller.join(feed)
        try:
            yield feed
        finally:
            poller.leave(feed)
            if poller.idle:
                if self._pollers.get(tick) is poller:
                    del self._pollers[tick]
                await poller.stop()

    async def close(self) -> None:
        """Stops polling and closes the source; feeds still open come to their end."""
        pollers, self._pollers = list(self._pollers.values()), {}
        for poller in pollers:
            await poller.stop()
        await self.source.close()


class _Poller:
    """Polls for all feeds of one tick length."""

    def __init__(self, source: TelemetrySource, tick: float, timeout: float, clock: Callable[[], float]) -> None:
        self._source = source
        self._tick = tick
        self._timeout = timeout
        self._clock = clock
        self._feeds: list[Feed] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return not self._feeds

    @property
    def over(self) -> bool:
        return self._task is not None and self._task.done()

    def join(self, feed: Feed) -> None:
        self._feeds.append(feed)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"telemetry hub, {self._tick:g} s")

    def leave(self, feed: Feed) -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for feed in self._feeds:
            feed.end()

    async def _run(self) -> None:
        try:
            await self._loop()
        except Exception as failure:  # noqa: BLE001 - every watch must see any error
            for feed in self._feeds:
                feed.end(failure)

    async def _loop(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._poll(due)
            due += self._tick
            # Late by whole ticks: leave them out rather than poll in a burst.
            due += max(0, (loop.time() - due) // self._tick) * self._tick
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _poll(self, due: float) -> None:
        """One call for all subjects; feeds hear of every tick that passes while it is under way."""
        loop = asyncio.get_running_loop()
        feeds = list(self._feeds)
        subjects = list(dict.fromkeys(feed.subject for feed in feeds))
        if not subjects:
            return
        began = loop.time()
        answer = asyncio.ensure_future(self._source.observe(subjects))
        try:
            while not answer.done():
                late = loop.time() - began
                if late >= self._timeout:
                    self._pause(f"{self._source.name} has not answered for {late:.1f} s")
                    return
                due += self._tick
                await asyncio.wait({answer}, timeout=min(max(due - loop.time(), 0.01), self._timeout - late))
                if not answer.done() and loop.time() >= due:
                    self._pause(f"{self._source.name} has not answered for {loop.time() - began:.1f} s")
            self._share(feeds, subjects, answer.result())
        except TelemetryError as failure:
            self._pause(str(failure))
        finally:
            if not answer.done():
                answer.cancel()
                answer.add_done_callback(_heard)
                await asyncio.wait({answer}, timeout=1.0)

    def _share(self, feeds: list[Feed], subjects: list[Subject], observations: list[Observation]) -> None:
        by_subject = dict(zip(subjects, observations, strict=True))
        for feed in feeds:
            feed.take(by_subject[feed.subject])

    def _pause(self, reason: str) -> None:
        for feed in self._feeds:
            feed.pause(reason, self._clock())


def _heard(answer: asyncio.Future[list[Observation]]) -> None:
    """Takes note of how an abandoned call ended, so that nobody complains that no one did."""
    if not answer.cancelled():
        answer.exception()
