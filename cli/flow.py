"""The demonstration flow: a seeded mix of orders around the touch, sent over HTTP like anybody else's.

Limit orders near the touch, marketable ones, cancels of what rests, and some outside the collar or too large, so
that refusals show. Rules: an order is in the synced send log before it is sent; it is sent again under the same id
until it is answered; at most ``UNANSWERED_MAX`` are unanswered, then the flow slows down; what it
cancels and which side it leans to follows the books, so that it can run for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import ssl
from collections import deque
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from cli.flow_log import Entry, Kind, SendLog, client_order_id, number_of, read, unanswered
from market.table import LastValue, TableReader
from protocol.codes import Code, OrderType, Side, TimeInForce
from protocol.params import InstrumentParams
from protocol.units import E9, format_e9, parse_e9
from runtime.clock import monotonic_ns
from runtime.logs import configure

SLOT_MS: Final = 50
LEARN_SLOTS: Final = 10  # the books are asked so seldom
ARRAY_MAX: Final = 100
SINGLES: Final = 2  # of each slot go alone, the rest as one array
UNANSWERED_MAX: Final = 2_000
RESTING_MAX: Final = 150
RETRY_S: Final = 0.2
REQUEST_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 32
LEAVE_S: Final = 3.0
POSITION_SOFT_E9: Final = 10 * E9
NS_PER_S: Final = 1_000_000_000
SETTLED: Final = frozenset({200, 201, 202, 400, 403, 409, 422})


class FlowSettings(NamedTuple):
    """What to send and where."""

    url: str
    books_url: str
    account: str
    strategy: str
    instrument: InstrumentParams
    rate: int
    seed: int
    folder: Path
    table: Path
    headers: dict[str, str]
    trust: ssl.SSLContext | bool = True


class Mix:
    """Decides what comes next. Pure but for its own random numbers."""

    def __init__(self, instrument: InstrumentParams, seed: int, next_number: int) -> None:
        self._instrument = instrument
        self._random = random.Random(seed + next_number)  # noqa: S311 -- a demonstration's mix, no secret
        self.next_number = next_number
        self.resting: deque[int] = deque()
        self.position_e9 = 0

    def next(self, value: LastValue) -> Entry:
        """Return the next order or cancel."""
        number = self.next_number
        self.next_number += 1
        draw = self._random.random()
        crowded = len(self.resting) / (2 * RESTING_MAX)  # the more rests, the more is cancelled: open orders stay few
        if self.resting and self._random.random() < 0.15 + crowded:
            return Entry(number, Kind.CANCEL, target=self.resting.popleft())
        side = self._side()
        if draw < 0.02:
            return self._order(number, side, self._touch(side, value) * (102 if side is Side.BUY else 98) // 100)
        if draw < 0.03:
            return self._order(number, side, self._touch(side, value), quantity_e9=6 * E9)
        if draw < 0.25:
            far = value.ask_e9 if side is Side.BUY else value.bid_e9
            return self._order(number, side, far, time_in_force=TimeInForce.IOC)
        behind = self._random.randint(0, 40) * self._instrument.tick_e9
        near = self._touch(side, value)
        return self._order(number, side, near - behind if side is Side.BUY else near + behind)

    def _side(self) -> Side:
        lean = max(-1.0, min(1.0, self.position_e9 / POSITION_SOFT_E9))
        return Side.BUY if self._random.random() < 0.5 - 0.5 * lean else Side.SELL

    def _touch(self, side: Side, value: LastValue) -> int:
        return value.bid_e9 if side is Side.BUY else value.ask_e9

    def _order(
        self,
        number: int,
        side: Side,
        price_e9: int,
        *,
        quantity_e9: int = 0,
        time_in_force: TimeInForce = TimeInForce.DAY,
    ) -> Entry:
        tick, lot = self._instrument.tick_e9, self._instrument.lot_e9
        quantity = quantity_e9 or self._random.randint(1, 20) * lot
        price = price_e9 // tick * tick
        return Entry(number, Kind.ORDER, side, OrderType.LIMIT, time_in_force, 0, 0, quantity, price)


class Flow:
    """Sends until it is told to stop."""

    def __init__(self, settings: FlowSettings) -> None:
        self._settings = settings
        left = list(read(settings.folder))
        self._pending = deque(unanswered(left))
        first = max((e.number for e in left), default=0) + 1
        self._log = SendLog(settings.folder)
        self._mix = Mix(settings.instrument, settings.seed, first)
        self._table = TableReader.open(settings.table)
        self._slot = self._table.slot(settings.instrument.instrument)
        self._instrument = settings.instrument.instrument
        self._unanswered = 0
        self._stop = asyncio.Event()
        self._left = asyncio.Event()
        # The client's own queue gives up after its time-out and starts at its end: under load some never had a turn.
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._logger = configure("flow")

    async def run(self) -> None:
        """Send at the rate until SIGTERM or SIGINT, then wait a moment for what is unanswered."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
        async with (
            httpx.AsyncClient(
                base_url=self._settings.url, headers=self._settings.headers, timeout=REQUEST_TIMEOUT_S, limits=limits,
                verify=self._settings.trust, trust_env=False,
            ) as client,
            httpx.AsyncClient(base_url=self._settings.books_url, timeout=REQUEST_TIMEOUT_S, trust_env=False) as books,
        ):  # fmt: skip
            tasks: set[asyncio.Task[None]] = set()
            self._logger.info("flow starts", next_number=self._mix.next_number, unanswered=len(self._pending))
            self._launch(tasks, client, [self._pending.popleft() for _ in range(len(self._pending))])
            await self._send_at_rate(tasks, client, books)
            if tasks:
                await asyncio.wait(tasks, timeout=LEAVE_S)
            self._left.set()
            for task in tasks:
                task.cancel()
        self._log.close()
        self._logger.info("flow ends", next_number=self._mix.next_number, unanswered=self._unanswered)

    async def _send_at_rate(
        self, tasks: set[asyncio.Task[None]], client: httpx.AsyncClient, books: httpx.AsyncClient
    ) -> None:
        started = monotonic_ns()
        sent = slots = 0
        while not self._stop.is_set():
            slots += 1
            if slots % LEARN_SLOTS == 0:
                self._spawn(tasks, self._learn(books))
            due = (monotonic_ns() - started) * self._settings.rate // NS_PER_S - sent
            room = UNANSWERED_MAX - self._unanswered
            count = max(0, min(due, room, 10 * ARRAY_MAX))
            if due > count:  # never a burst after a pause
                sent += due - count
            sent += count
            entries = self._make(count)
            if entries:
                self._log.append(entries, durable=True)
                self._launch(tasks, client, entries)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), SLOT_MS / 1000)

    def _make(self, count: int) -> list[Entry]:
        self._table.reopen()
        value = self._table.read(self._slot)
        if value is None or not value.bid_e9 or not value.ask_e9:
            return []
        return [self._mix.next(value) for _ in range(count)]

    def _launch(self, tasks: set[asyncio.Task[None]], client: httpx.AsyncClient, entries: Sequence[Entry]) -> None:
        orders = [e for e in entries if e.kind is Kind.ORDER]
        singles, rest = orders[:SINGLES], orders[SINGLES:]
        coroutines = [self._order(client, e) for e in singles]
        coroutines += [self._array(client, rest[n : n + ARRAY_MAX]) for n in range(0, len(rest), ARRAY_MAX)]
        coroutines += [self._cancel(client, e) for e in entries if e.kind is Kind.CANCEL]
        self._unanswered += len(entries)
        for coroutine in coroutines:
            self._spawn(tasks, coroutine)

    def _spawn(self, tasks: set[asyncio.Task[None]], coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _order(self, client: httpx.AsyncClient, entry: Entry) -> None:
        while True:
            async with self._turns:
                response = await _try(client.post("/v1/orders", json=self._body(entry)))
            if response is not None and response.status_code in SETTLED:
                self._answered(entry, response.status_code, response.json())
                return
            await self._pause(response)

    async def _array(self, client: httpx.AsyncClient, entries: Sequence[Entry]) -> None:
        left = list(entries)
        while left:
            async with self._turns:
                response = await _try(client.post("/v1/orders", json=[self._body(e) for e in left]))
            again = left
            if response is not None and response.status_code == 200:
                again = []
                for entry, item in zip(left, response.json(), strict=True):
                    if item.get("http_status", 0) in SETTLED:
                        self._answered(entry, item["http_status"], item)
                    else:
                        again.append(entry)
            left = again
            if left:
                await self._pause(response)

    async def _cancel(self, client: httpx.AsyncClient, entry: Entry) -> None:
        path = f"/v1/orders/{self._settings.account}/{client_order_id(entry.target)}"
        while True:
            async with self._turns:
                response = await _try(client.delete(path))
            if response is not None and response.status_code in SETTLED:
                self._answered(entry, response.status_code, response.json())
                return
            await self._pause(response)

    async def _pause(self, response: httpx.Response | None) -> None:
        wait = RETRY_S
        if response is not None and response.headers.get("retry-after", "").isdigit():
            wait = max(RETRY_S, min(float(response.headers["retry-after"]), 2.0))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), wait)

    def _answered(self, entry: Entry, status: int, body: dict[str, Any]) -> None:
        self._unanswered -= 1
        name = body.get("code") or body.get("error", {}).get("code", "")
        code = Code[name] if name in Code.__members__ else Code.MSG_MALFORMED
        self._log.append([Entry(entry.number, Kind.ANSWER, code=code, status=status)], durable=False)

    async def _learn(self, books: httpx.AsyncClient) -> None:
        """Ask the books what still works and what is held; what they don't say is not cancelled and not leaned on."""
        account = {"account": self._settings.account}
        orders = await _try(books.get("/v1/orders", params={**account, "open": "true", "limit": RESTING_MAX}))
        if orders is not None and orders.status_code == 200:
            ids = [o["client_order_id"] for o in orders.json()["orders"]]
            self._mix.resting = deque(n for i in ids if (n := number_of(i)))
        held = await _try(books.get("/v1/positions", params={**account, "instrument": self._instrument}))
        if held is not None and held.status_code == 200 and (rows := held.json()["positions"]):
            self._mix.position_e9 = parse_e9(rows[0]["quantity"], "quantity")

    def _body(self, entry: Entry) -> dict[str, str]:
        return {
            "account": self._settings.account,
            "strategy": self._settings.strategy,
            "instrument": self._settings.instrument.instrument,
            "client_order_id": client_order_id(entry.number),
            "side": Side(entry.side).name,
            "quantity": format_e9(entry.quantity_e9),
            "order_type": OrderType(entry.order_type).name,
            "time_in_force": TimeInForce(entry.time_in_force).name,
            "price": format_e9(entry.price_e9),
        }


async def _try(request: Coroutine[Any, Any, httpx.Response]) -> httpx.Response | None:
    try:
        return await request
    except httpx.HTTPError:
        return None


def run(settings: FlowSettings) -> int:
    """Run the flow in this process; return the exit code."""
    asyncio.run(Flow(settings).run())
    return 0
