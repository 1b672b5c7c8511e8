"""The calls to Pub/Sub: one channel of Google's asyncio client; each call has a deadline, and a word for each message.

Rules: credentials come from the environment as Google's libraries read them (``PUBSUB_EMULATOR_HOST`` = an emulator,
without any). Nothing is retried here. A settle is a call of its own, so that its answer is known: with exactly-once
delivery a call that failed has succeeded for the ids that its error does not name.

What is used of google-cloud-pubsub are its messages, as plain protobuf, and the channel of its asyncio transport
(SOURCES section 6.2): its own subscriber acknowledges one message of an ordering key after the other, and through its
transport a settle of 100 messages took 0.4 ms to write down, and two tasks more for what logs each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from operator import methodcaller
from typing import Any, Final
from urllib.parse import quote

import google.auth
import grpc
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.iam.v1 import iam_policy_pb2
from google.protobuf import empty_pb2
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import pubsub as types
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protocol.errors import ConfigError
from sidecars.sources.pubsub_settings import PubSubSettings

EMULATOR: Final = "PUBSUB_EMULATOR_HOST"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 5.0
CLOSE_S: Final = 0.3
IDS_MAX: Final = 1_000  # of one call, which may have 512 KiB
MESSAGES_MAX: Final = 1_000
PUBLISH_BYTES_MAX: Final = 9 << 20  # the service takes 10 MB
WINDOW_BYTES: Final = 1 << 20  # what the client reads ahead of us
MESSAGE_BYTES_MAX: Final = 20 << 20
SUBSCRIBER: Final = "/google.pubsub.v1.Subscriber/"
PUBLISHER: Final = "/google.pubsub.v1.Publisher/"
DONE: Final = ""
LOST: Final = "lost"
PERMANENT: Final = "PERMANENT_FAILURE_"
BROKEN: Final = (grpc.RpcError, grpc.aio.UsageError, GoogleAuthError, OSError, TimeoutError)
"""What the client raises when the other side is gone, slow or refuses."""
_CODE: Final = grpc.StatusCode
FORBIDDEN: Final = frozenset({_CODE.PERMISSION_DENIED, _CODE.UNAUTHENTICATED})
MISCONFIGURED: Final = FORBIDDEN | {_CODE.NOT_FOUND, _CODE.INVALID_ARGUMENT, _CODE.FAILED_PRECONDITION}
"""What only a person can change: refused at the start, retried once it has worked."""


def code_of(error: BaseException | None) -> grpc.StatusCode | None:
    """Return the code that Pub/Sub gave; None if it gave none."""
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None


def is_misconfigured(error: BaseException | None) -> bool:
    """Whether only a person can change it."""
    return code_of(error) in MISCONFIGURED


def text_of(error: BaseException) -> str:
    """Return an error in one line."""
    text = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else str(error)
    return " ".join(text.split())[:300] or type(error).__name__


def words_of(error: BaseException, ids: Sequence[str]) -> list[str]:
    """Return a word for each acknowledgement id of a call that failed: ``DONE``, ``LOST``, or why not.

    With exactly-once delivery the error names the ids that failed, and only those; else all have.
    """
    failed: dict[str, str] = {}
    status = rpc_status.from_call(error) if isinstance(error, grpc.aio.AioRpcError) else None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            failed.update(info.metadata)
    if not any(value.startswith((PERMANENT, "TRANSIENT_FAILURE_")) for value in failed.values()):
        return [text_of(error)] * len(ids)
    return [LOST if (why := failed.get(i, DONE)).startswith(PERMANENT) else why for i in ids]


async def open_channel(endpoint: str, keepalive_s: int) -> Any:
    """Return a channel; nothing is connected yet.

    Raises:
        ConfigError: If there are no credentials.
    """
    options = [
        ("grpc.keepalive_time_ms", keepalive_s * 1_000),
        ("grpc.keepalive_timeout_ms", min(10, keepalive_s) * 1_000),
        ("grpc.http2.ping_timeout_ms", min(10, keepalive_s) * 1_000),  # a minute by default, whatever the one above is
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 3_000),  # a connection that does not come about in this time never will
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ]
    emulator = os.environ.get(EMULATOR, "")
    if emulator:
        return grpc.aio.insecure_channel(emulator, options=options)
    try:  # may ask a metadata server
        credentials, _ = await asyncio.to_thread(google.auth.default, scopes=SubscriberGrpcAsyncIOTransport.AUTH_SCOPES)
    except DefaultCredentialsError as e:
        raise ConfigError([f"environment: expected credentials as Google's libraries find them: {e}"]) from e
    return SubscriberGrpcAsyncIOTransport.create_channel(endpoint, credentials=credentials, options=options)


class Stream:
    """One streaming pull. Of no use after it has ended, or failed."""

    def __init__(self, call: Any, first: Any) -> None:
        self._call = call
        self._first = first

    async def begin(self) -> None:
        """Ask for messages; returns when there is a connection that took the request."""
        call = self._call
        try:
            async with asyncio.timeout(CONNECT_S):
                await call.write(self._first)
        except asyncio.InvalidStateError:  # it was refused before it could be asked
            told = await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            raise grpc.aio.AioRpcError(await call.code(), *told) from None

    async def read(self) -> Any:
        """Wait for the next response, as plain protobuf; None = Pub/Sub ended the stream in good order."""
        try:
            response = await self._call.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._call.cancelled() and task is not None and not task.cancelling():
                return None  # by ``cancel``: the client tells its reader in this way
            raise
        return None if response is grpc.aio.EOF else response

    async def finish(self) -> None:
        """Ask for nothing more; what is under way still comes."""
        with contextlib.suppress(*BROKEN, asyncio.InvalidStateError):
            async with asyncio.timeout(CLOSE_S):
                await self._call.done_writing()

    def cancel(self) -> None:
        """End it at once."""
        self._call.cancel()


class Link:
    """The calls on one channel, made in the running loop."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        unary = channel.unary_unary
        self._acknowledge = _made(unary, SUBSCRIBER + "Acknowledge", empty_pb2.Empty)
        self._modify = _made(unary, SUBSCRIBER + "ModifyAckDeadline", empty_pb2.Empty)
        self._pull = _made(unary, SUBSCRIBER + "Pull", types.PullResponse.pb())
        self._streaming_pull = _made(
            channel.stream_stream, SUBSCRIBER + "StreamingPull", types.StreamingPullResponse.pb()
        )
        self._get_subscription = _made(unary, SUBSCRIBER + "GetSubscription", types.Subscription.pb())
        self._publish = _made(unary, PUBLISHER + "Publish", types.PublishResponse.pb())
        self._get_topic = _made(unary, PUBLISHER + "GetTopic", types.Topic.pb())
        self._may = _made(
            unary, "/google.iam.v1.IAMPolicy/TestIamPermissions", iam_policy_pb2.TestIamPermissionsResponse
        )

    @classmethod
    async def open(cls, settings: PubSubSettings) -> Link:
        """Return a link; nothing is connected yet. Raises as ``open_channel``."""
        return cls(await open_channel(settings.endpoint, settings.keepalive_s))

    async def reach(self) -> None:
        """Wait until there is a connection.

        Raises:
            TimeoutError: If there is none in time.
        """
        async with asyncio.timeout(CONNECT_S):
            await self._channel.channel_ready()

    async def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(*BROKEN, asyncio.CancelledError):
            async with asyncio.timeout(CLOSE_S):
                await self._channel.close()

    def stream(self, subscription: str, settings: PubSubSettings, client_id: str) -> Stream:
        """Return a streaming pull that has not begun."""
        first = types.StreamingPullRequest.pb()(
            subscription=subscription,
            stream_ack_deadline_seconds=settings.ack_deadline_s,
            max_outstanding_messages=settings.prefetch,
            max_outstanding_bytes=settings.prefetch_bytes,
            client_id=client_id,
        )
        return Stream(self._streaming_pull(metadata=_to("subscription", subscription)), first)

    async def acknowledge(self, subscription: str, ids: Sequence[str]) -> list[str]:
        """Settle messages; return a word for each."""
        request = types.AcknowledgeRequest.pb()(subscription=subscription, ack_ids=ids)
        return await self._words(self._acknowledge, request, subscription, ids)

    async def modify(self, subscription: str, ids: Sequence[str], seconds: int) -> list[str]:
        """Say for how much longer messages stay ours, 0 = no longer; return a word for each."""
        make = types.ModifyAckDeadlineRequest.pb()
        request = make(subscription=subscription, ack_ids=ids, ack_deadline_seconds=seconds)
        return await self._words(self._modify, request, subscription, ids)

    async def _words(self, call: Any, request: Any, subscription: str, ids: Sequence[str]) -> list[str]:
        try:
            await call(request, timeout=ANSWER_S, metadata=_to("subscription", subscription))
        except BROKEN as e:
            return words_of(e, ids)
        return [DONE] * len(ids)

    async def publish(self, topic: str, messages: Sequence[types.PubsubMessage]) -> list[BaseException | None]:
        """Publish; return for each what went wrong, None = Pub/Sub has it durably."""
        errors: list[BaseException | None] = []
        for part in in_calls(messages):
            request = types.PublishRequest.pb()(topic=topic, messages=map(types.PubsubMessage.pb, part))
            error: BaseException | None = None
            try:
                await self._publish(request, timeout=ANSWER_S, metadata=_to("topic", topic))
            except BROKEN as e:
                error = e
            errors += [error] * len(part)
        return errors

    async def pull(self, subscription: str, most: int, within_s: float) -> Sequence[Any]:
        """Return some messages, none = none came in time. Raises what is ``BROKEN``."""
        request = types.PullRequest.pb()(subscription=subscription, max_messages=most)
        try:
            answer = await self._pull(request, timeout=within_s, metadata=_to("subscription", subscription))
        except grpc.aio.AioRpcError as e:
            if e.code() in {_CODE.DEADLINE_EXCEEDED, _CODE.CANCELLED}:
                return ()
            raise
        found: Sequence[Any] = answer.received_messages
        return found

    async def look(self, path: str) -> Any:
        """Return what Pub/Sub says of a topic or a subscription, as plain protobuf. Raises what is ``BROKEN``."""
        if "/topics/" in path:
            request = types.GetTopicRequest.pb()(topic=path)
            return await self._get_topic(request, timeout=ANSWER_S, metadata=_to("topic", path))
        request = types.GetSubscriptionRequest.pb()(subscription=path)
        return await self._get_subscription(request, timeout=ANSWER_S, metadata=_to("subscription", path))

    async def may(self, path: str, right: str) -> bool:
        """Return whether Pub/Sub says that we have a right there. Raises what is ``BROKEN``."""
        request = iam_policy_pb2.TestIamPermissionsRequest(resource=path, permissions=[right])
        answer = await self._may(request, timeout=ANSWER_S, metadata=_to("resource", path))
        return right in answer.permissions


_to_bytes: Final = methodcaller("SerializeToString")


def _made(make: Any, path: str, answer: Any) -> Any:
    """Return a call of one method; a request that it is given, and what it returns, are plain protobuf."""
    return make(path, request_serializer=_to_bytes, response_deserializer=answer.FromString)


def in_calls(messages: Sequence[types.PubsubMessage]) -> list[list[types.PubsubMessage]]:
    """Return the messages in parts that one call takes; all of one part have the same ordering key."""
    calls: list[list[types.PubsubMessage]] = []
    size, key = 0, ""
    for message in messages:
        plain = types.PubsubMessage.pb(message)
        bytes_ = plain.ByteSize()
        is_full = not calls or len(calls[-1]) == MESSAGES_MAX or size + bytes_ > PUBLISH_BYTES_MAX
        if is_full or plain.ordering_key != key:
            calls.append([])
            size = 0
        calls[-1].append(message)
        size, key = size + bytes_, plain.ordering_key
    return calls


def _to(name: str, path: str) -> tuple[tuple[str, str], ...]:
    """Return the header by which Google finds the place; the clients above the transport would set it."""
    return (("x-goog-request-params", f"{name}={quote(path, safe='')}"),)
