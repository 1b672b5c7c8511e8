"""A risk system elsewhere: each request as signed JSON to an address, and its signed answer (docs/risk-service.md).

What can go wrong on the other side and what happens here:
- slow: an attempt ends at the order's deadline, or after ``timeout_ms``; others wait in the session's bounded queues;
- gone, or refusing what it may take later (408, 425, 429, 5xx): asked again, under the same id, until the order left;
- refusing for good (any other status): not asked again;
- repeated: an id that comes twice is the same question, and its answer the same;
- lying: an answer whose signature, time, id, size or content is not what it has to be is none.
Rule: no answer is ever made up here. Who got none waits for its deadline, and ``on_deadline`` says what then.
"""

from __future__ import annotations

import hmac
import os
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, structs

from protocol.codes import Code
from protocol.errors import NOT_DECODED, WojakError
from protocol.risk import Money, RiskAnswer, RiskRequest, Text, Verdict
from protocol.units import INT64_MAX
from runtime import clock, logs, webhooks

ANSWER_BYTES_MAX: Final = 16 << 10
ASKED_MAX: Final = 32
"""Exchanges at a time, of all accounts: each has a thread."""
FRESH_S: Final = 300
TIME_DIGITS_MAX: Final = 12
AGAIN: Final = frozenset({408, 425, 429})
SERVER_FROM: Final = 500
BACKOFF_MS: Final = 20
BACKOFF_MS_MAX: Final = 1_000
FAILING_NS: Final = 60_000_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
Digits = Annotated[str, Meta(pattern=r"^[0-9]{1,19}$")]


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the risk system is.

    Attributes:
        ca_file: Trust it by these certificates; empty = by those of the system.
        timeout_ms: Longest attempt; none goes on behind the order's first deadline.
        account_max: Requests of one account that are asked at a time.
        give_up_ms: No order is held for longer, so none is asked about for longer.
    """

    url: str
    secret: str
    ca_file: str = ""
    timeout_ms: int = 2_000
    account_max: int = 4
    give_up_ms: int = 30_000


class WebhookError(WojakError):
    """An attempt brought no answer that counts."""

    code = "RISK_WEBHOOK"

    def __init__(self, why: str, *, is_final: bool = True) -> None:
        self.is_final = is_final
        super().__init__(f"{self.code}: {why}")


class WebhookAnswer(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an answer; amounts and times are decimal text, as in the request.

    Attributes:
        valid_until_ns: As of ``RiskAnswer``; empty = until the request's deadline.
        book_seq: -1 = not said.
    """

    order_id: str
    asked: int
    verdict: Literal["approve", "reject", "trim"]
    quantity_e9: Digits = "0"
    code: str = ""
    text: Text = ""
    margin_before_e9: Money = "0"
    margin_after_e9: Money = "0"
    margin_inc_e9: Money = "0"
    book_seq: int = -1
    valid_until_ns: Digits | Literal[""] = ""
    params_version: Text = ""


_decode: Final = msgspec.json.Decoder(WebhookAnswer).decode


class _Asked:
    """One request that a thread asks about."""

    def __init__(self, request: RiskRequest, until_ns: int, deadline_ns: int) -> None:
        self.request = request
        self.until_ns = until_ns  # monotonic, as is deadline_ns
        self.deadline_ns = deadline_ns
        self.is_over = threading.Event()
        self.answer: RiskAnswer | None = None
        self._lock = threading.Lock()
        self._cut: Callable[[], None] | None = None

    def opened(self, cut: Callable[[], None]) -> None:
        """Remember how the attempt is cut."""
        with self._lock:
            self._cut = cut
        if self.is_over.is_set():
            cut()

    def end(self) -> None:
        """Nobody waits any more."""
        self.is_over.set()
        with self._lock:
            cut = self._cut
        if cut is not None:
            cut()


class Webhook:
    """Asks the risk system, in threads; the service's loop takes the answers. ``fd`` is readable when there are some.

    Attributes:
        failed: Attempts without an answer that counts.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._log = logs.configure("risk")
        self._trust = ssl.create_default_context(cafile=settings.ca_file or None)
        self._threads = ThreadPoolExecutor(ASKED_MAX, "risk-webhook")
        self._asked: dict[str, _Asked] = {}  # by delivery
        self._accounts: Counter[str] = Counter()
        self._done: deque[str] = deque()  # at most as many as are asked
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.failed = 0
        self._failed_ns = -FAILING_NS  # monotonic, of the last failure that no answer followed

    @property
    def asking(self) -> int:
        """Requests that are asked now."""
        return len(self._asked)

    def is_failing(self, now_ns: int) -> bool:
        """Whether the last attempt failed, not long before ``now_ns``, monotonic."""
        return now_ns - self._failed_ns < FAILING_NS

    def is_busy(self, account: str) -> bool:
        """Whether this account has to wait."""
        return len(self._asked) >= ASKED_MAX or self._accounts[account] >= self._settings.account_max

    def ask(self, request: RiskRequest, now_ns: int) -> None:
        """Ask about an order; the caller saw that it is not busy. ``now_ns``: this host's clock, UTC."""
        delivery = delivery_of(request)
        if delivery in self._asked:
            return  # asked again in another session: its answer comes
        began_ns = clock.monotonic_ns()
        deadline_ns = began_ns + max(0, request.deadline_ns - max(now_ns, request.now_ns))
        asked = _Asked(request, began_ns + self._settings.give_up_ms * NS_PER_MS, deadline_ns)
        self._asked[delivery] = asked
        self._accounts[request.account] += 1
        self._threads.submit(self._run, delivery, asked)

    def withdraw(self, order_id: str) -> None:
        """Cut what is asked about an order that left."""
        for asked in self._asked.values():
            if asked.request.order_id == order_id:
                asked.end()

    def collect(self) -> list[RiskAnswer]:
        """Return the answers that came."""
        while len(self._drained()) == ASKED_MAX:
            pass
        found = []
        while self._done:
            asked = self._asked.pop(self._done.popleft())
            account = asked.request.account
            self._accounts[account] -= 1
            if not self._accounts[account]:
                del self._accounts[account]
            if asked.answer is not None and not asked.is_over.is_set():
                found.append(asked.answer)
        return found

    def _drained(self) -> bytes:
        try:
            return os.read(self.fd, ASKED_MAX)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Cut everything and wait for the threads."""
        for asked in self._asked.values():
            asked.end()
        self._threads.shutdown(cancel_futures=True)
        os.close(self.fd)
        os.close(self._write_fd)

    # In a thread

    def _run(self, delivery: str, asked: _Asked) -> None:
        try:
            self._try(delivery, asked)
        except Exception as e:  # noqa: BLE001 - a thread that dies in silence would keep its place for ever
            self._fail(f"{type(e).__name__}: {e}")
        self._done.append(delivery)
        os.write(self._write_fd, b"\0")

    def _try(self, delivery: str, asked: _Asked) -> None:
        body = body_of(asked.request)
        backoff_ms = BACKOFF_MS
        while not asked.is_over.is_set() and (left_ns := asked.until_ns - clock.monotonic_ns()) > 0:
            try:
                asked.answer = self._attempt(delivery, asked, body, left_ns)
            except WebhookError as e:
                if asked.is_over.is_set():  # cut by us
                    return
                self._fail(str(e))
                if e.is_final:
                    return
            else:
                self._failed_ns = -FAILING_NS
                return
            asked.is_over.wait(backoff_ms / 1_000)
            backoff_ms = min(2 * backoff_ms, BACKOFF_MS_MAX)

    def _fail(self, why: str) -> None:
        if not self.is_failing(clock.monotonic_ns()):
            self._log.error("the risk system did not answer", why=why)
        self.failed += 1
        self._failed_ns = clock.monotonic_ns()

    def _attempt(self, delivery: str, asked: _Asked, body: bytes, left_ns: int) -> RiskAnswer:
        settings = self._settings
        to_deadline_ns = asked.deadline_ns - clock.monotonic_ns()
        least_ns = min(settings.timeout_ms * NS_PER_MS, left_ns, to_deadline_ns if to_deadline_ns > 0 else left_ns)
        now_s = clock.wall_ns() // NS_PER_S
        try:
            came = webhooks.post(
                settings.url, body, webhooks.signed_headers(settings.secret, now_s, delivery, body),
                least_ns / NS_PER_S, answer_bytes_max=ANSWER_BYTES_MAX + 1, trust=self._trust, opened=asked.opened,
            )  # fmt: skip
        except ssl.SSLCertVerificationError:
            raise WebhookError("expected a certificate that is trusted, was another") from None
        except webhooks.NET_ERRORS as e:
            raise WebhookError(f"HTTP failed: {type(e).__name__}", is_final=False) from None
        if not came.is_ok:
            is_final = came.status < SERVER_FROM and came.status not in AGAIN
            raise WebhookError(f"HTTP answered {came.status}", is_final=is_final)
        return answer_of(asked.request, came, settings.secret, clock.wall_ns() // NS_PER_S)


def delivery_of(request: RiskRequest) -> str:
    """Return the id of a question: the same in every attempt."""
    return f"{request.order_id}.{request.asked}"


def body_of(request: RiskRequest) -> bytes:
    """Return the request as JSON: its fields by name, codes and kinds by theirs, amounts and times as decimal text."""
    said: dict[str, Any] = {}
    for name, value in structs.asdict(request).items():
        if name.endswith(("_e9", "_ns")):
            said[name] = str(value)
        elif name == "codes":
            said[name] = [code.name for code in value]
        elif name == "trace_id":
            said[name] = value.hex()
        else:
            said[name] = value.name if name in {"side", "order_type", "time_in_force"} else value
    return msgspec.json.encode(said)


def answer_of(request: RiskRequest, came: webhooks.Answered, secret: str, now_s: int) -> RiskAnswer:
    """Return the answer that came; ``now_s`` is this host's clock, UTC.

    Raises:
        WebhookError: If it is none.
    """
    headers, body, delivery = came.headers, came.body, delivery_of(request)
    if len(body) > ANSWER_BYTES_MAX:
        raise WebhookError(f"answer expected at most {ANSWER_BYTES_MAX} bytes, was more")
    timestamp = headers.get(webhooks.TIMESTAMP.lower(), "")
    proof = headers.get(webhooks.SIGNATURE.lower(), "")
    if headers.get(webhooks.DELIVERY.lower()) != delivery:
        raise WebhookError("answer expected the id of the question in X-Wojak-Delivery, was another or none")
    expected = webhooks.signature_of(secret, timestamp, delivery, body)
    if not hmac.compare_digest(expected.encode(), proof.encode("latin-1", "replace")):
        raise WebhookError("answer expected a signature under the secret, was another or none")
    is_time = timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= TIME_DIGITS_MAX
    if not (is_time and abs(now_s - int(timestamp)) <= FRESH_S):
        raise WebhookError(f"answer expected a time within {FRESH_S} s in X-Wojak-Timestamp, was another")
    try:
        said = _decode(body)
    except NOT_DECODED as e:
        raise WebhookError(f"answer can't be read: {e}") from None
    if (said.order_id, said.asked) != (request.order_id, request.asked):
        raise WebhookError("answer expected the order of the question, was another")
    if -1 != said.book_seq < request.book_seq:
        raise WebhookError(f"answer expected book_seq at least {request.book_seq}, was {said.book_seq}")
    verdict = Verdict[said.verdict.upper()]
    usual = "RISK_REJECTED" if verdict is Verdict.REJECT else "OK"
    if (code := said.code or usual) not in Code.__members__:
        raise WebhookError("answer expected a code of the reference, was another")
    if (quantity_e9 := int(said.quantity_e9)) > INT64_MAX:
        raise WebhookError(f"answer expected quantity_e9 at most {INT64_MAX}, was more")
    return RiskAnswer(
        request.order_id, request.asked, verdict, quantity_e9, Code[code], said.text, said.margin_before_e9,
        said.margin_after_e9, said.margin_inc_e9, max(said.book_seq, request.book_seq),
        min(int(said.valid_until_ns or request.deadline_ns), INT64_MAX), said.params_version,
    )  # fmt: skip
