"""Which case of SOURCES section 12 each source is shown in, by what; what is not shown says why (DECISIONS 41).

``peer``: by a test of the suite, or of the source's own, against its real broker; ``own sender``: the other side is
ours, because the real one can't be had here; ``stub``: against a stand-in for one call; ``not shown``: with the reason;
``none``: the case can't happen with this source. A test holds that each case has a line, and each ``peer`` a test.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

CASES: Final = {
    "C1": "kill -9 before the forward",
    "C2": "kill -9 after the forward, before the engine reads",
    "C3": "engine crash after the journal, before the reply",
    "C4": "kill -9 after the reply, before the settle",
    "C5": "settle sent, response lost",
    "C6": "connection cut; half-open",
    "C7": "lease ends while forwarded: a frozen process wakes",
    "C8": "duplicates: same id, same order in another message, changed payload",
    "C9": "reorder inside a unit",
    "C10": "partial batch settle failure",
    "C11": "extension fails once, then always",
    "C12": "engine stall, credits 0",
    "C13": "poison first in its unit",
    "C14": "SIGTERM under load",
    "C15": "rebalance storm",
    "C16": "revoke then return of a partition with answers pending",
    "C17": "aborted transactions, compaction gaps",
    "C18": "split and merge under load; expired iterator; throttle burst",
    "C19": "two owners of a lease",
    "C20": "consumer time-out; server cancel; leader loss; delivery limit with no dead letter exchange",
    "C21": "poll response lost; heartbeat lost; token completed twice; a retry gives a new token",
    "C22": "forged signature, wrong certificate host, old version, replay, foreign confirmation",
    "C23": "wrong audience, e-mail, rotated key, expired token",
    "C24": "key reuse, client gone, slow header and body, oversize, smuggling, nonce replay",
    "C25": "credentials expire and rotate mid-run",
    "C26": "envelope against raw, aggregated records",
}
PEER: Final = "peer"
OWN_SENDER: Final = "own sender"
STUB: Final = "stub"
NOT_SHOWN: Final = "not shown"
NONE: Final = "none"
HOWS: Final = frozenset({PEER, OWN_SENDER, STUB, NOT_SHOWN, NONE})


class Shown(Struct, frozen=True):
    """How a case is shown, and why not better."""

    how: str
    why: str = ""


class Sent(Struct, frozen=True):
    """How many messages the test of many sends, of how many that DECISIONS 41 wants, and why not all."""

    many: int
    wanted: int
    why: str = ""


MANY: Final = {
    "rabbitmq": Sent(100_000, 100_000),
    "kafka": Sent(100_000, 100_000),
    "kinesis": Sent(
        10_000, 100_000,
        "a put of kinesis-local becomes slower with the records of its shard: 100,000 were not done after 580 s on two "
        "busy cores",
    ),
    "pubsub": Sent(100_000, 100_000),
    "pubsub_push": Sent(2_000, 2_000),
    "sqs": Sent(10_000, 10_000),
    "sqs_fifo": Sent(10_000, 10_000),
    "stepfunctions": Sent(2_000, 2_000),
    "sns": Sent(2_000, 2_000),
    "sqs_sns": Sent(2_000, 2_000),
}  # fmt: skip

_ELSEWHERE: Final = Shown(NONE, "another source's case")
_COMMON: Final = {case: Shown(PEER) for case in ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C12", "C13", "C14")}

MATRIX: Final[dict[str, dict[str, Shown]]] = {
    "rabbitmq": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **_COMMON,
        "C9": Shown(PEER, "order across a crash; nothing is ever nacked out of its turn but by a drain, newest first"),
        "C10": Shown(NONE, "an acknowledgement is a frame without an answer: it fails with its channel, all or none"),
        "C11": Shown(NONE, "a consumer time-out can't be extended"),
        "C20": Shown(
            PEER,
            "server cancel, leader loss as the node's restart; the time-out and the limits of 4.x are not shown: the "
            "peer is 3.10",
        ),
        "C25": Shown(NOT_SHOWN, "the address is read once; a changed password needs a restart of the sidecar"),
    },
    "kafka": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **_COMMON,
        "C9": Shown(PEER, "order of each key across a crash, rebalances and an added partition; there is no nack"),
        "C10": Shown(NONE, "a commit is one request for all partitions of this group here: it fails as a whole"),
        "C11": Shown(NONE, "there is no lease to extend; membership is kept by the client's heartbeats"),
        "C15": Shown(PEER),
        "C16": Shown(PEER),
        "C17": Shown(PEER, "aborted transactions; gaps of any size as a property of the window, compaction not run"),
        "C25": Shown(NOT_SHOWN, "credentials are read once; changed ones need a restart of the sidecar"),
    },
    "kinesis": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **_COMMON,
        "C9": Shown(PEER, "order of each key across a crash, splits, a merge and moves of a lease; there is no nack"),
        "C10": Shown(NONE, "a checkpoint is one write of one row: it fails or not"),
        "C11": Shown(PEER, "the lease of the shard; one that can't be renewed: the table is cut off"),
        "C18": Shown(PEER, "split and merge by the peer; expired iterators and throttles are refusals put in its way"),
        "C19": Shown(PEER),
        "C25": Shown(NOT_SHOWN, "boto3 fetches credentials anew by itself; the peers take any"),
        "C26": Shown(PEER, "an aggregate is refused; there are no envelopes"),
    },
    "pubsub": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **_COMMON,
        "C5": Shown(PEER, "an acknowledgement made again; INVALID_ACK_ID too: test_pubsub_once.py"),
        "C7": Shown(
            PEER,
            "the peer takes no acknowledgement of an earlier delivery; that the service refuses it with exactly-once "
            "delivery is our server's doing there, and a stand-in's in tests/unit/sidecars/test_pubsub.py",
        ),
        "C9": Shown(
            PEER, "one message of a key at a time there; several under way: tests/unit/sidecars/test_pubsub.py"
        ),
        "C10": Shown(STUB, "some ids of a call that fail can't be had of the peer: tests/unit/sidecars/test_pubsub.py"),
        "C11": Shown(PEER, "extended for three leases; one that fails: stub, tests/unit/sidecars/test_pubsub.py"),
        "C23": Shown(NONE, "pubsub_push: the pushed form is a source of its own"),
        "C25": Shown(NOT_SHOWN, "google-auth fetches tokens anew by itself; the peer takes any"),
    },
    "pubsub_push": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **dict.fromkeys(_COMMON, Shown(OWN_SENDER, "pstest does not push; ours wraps messages and makes tokens alike")),
        "C9": Shown(NONE, "a request is one message; the order of a key is up to who pushes, and was not run"),
        "C10": Shown(NONE, "each push is answered for itself"),
        "C11": Shown(NONE, "a request's deadline can't be extended"),
        "C23": Shown(OWN_SENDER, "keys and tokens of our own; Google's were not seen"),
        "C24": Shown(NONE, "the same listener as the HTTP source, which shows it"),
        "C25": Shown(NOT_SHOWN, "google-auth fetches tokens anew by itself; the peer takes any"),
    },
    "sqs": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **_COMMON,
        "C7": Shown(
            PEER,
            "the peer refuses old handles; SQS takes a late delete of a standard queue, which is meant",
        ),
        "C9": Shown(NONE, "a standard queue promises no order"),
        "C10": Shown(STUB, "one of ten that fails can't be had of the peer: tests/unit/sidecars/test_sqs.py"),
        "C11": Shown(PEER, "extended for three leases; one that fails: with a stub, tests/unit/sidecars/test_sqs.py"),
        "C25": Shown(NOT_SHOWN, "boto3 fetches credentials anew by itself; the peer takes any"),
        "C26": Shown(NONE, "sqs_sns: envelopes are a setting of the same source"),
    },
    "stepfunctions": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **_COMMON,
        "C9": Shown(NONE, "there is no order between tasks"),
        "C10": Shown(NONE, "each task is answered by a call of its own"),
        "C11": Shown(PEER, "for three leases; one that fails: with a stub, tests/unit/sidecars/test_stepfunctions.py"),
        "C21": Shown(PEER, "also tokens that came over SQS; a lost heartbeat: with the stub of C11"),
        "C25": Shown(NOT_SHOWN, "boto3 fetches credentials anew by itself; the peer takes any"),
    },
    "sns": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **dict.fromkeys(_COMMON, Shown(OWN_SENDER, "LocalStack posts once and never again; ours signs as SNS does")),
        "C9": Shown(NONE, "there is no order between notifications"),
        "C10": Shown(NONE, "each post is answered for itself"),
        "C11": Shown(NONE, "a request's deadline can't be extended"),
        "C22": Shown(PEER, "confirmation and both signatures by LocalStack, with its key; forgeries by our own sender"),
        "C24": Shown(NONE, "the same listener as the HTTP source, which shows it"),
        "C25": Shown(NOT_SHOWN, "boto3 fetches credentials anew by itself; the peer takes any"),
    },
    "sqs_fifo": {
        **dict.fromkeys(CASES, _ELSEWHERE),
        **_COMMON,
        "C9": Shown(PEER, "with ElasticMQ, whose group lock holds what SQS documents; seen with no other server"),
        "C10": Shown(STUB, "as for sqs"),
        "C11": Shown(PEER, "as for sqs"),
        "C25": Shown(NOT_SHOWN, "as for sqs"),
        "C26": Shown(NONE, "SNS FIFO topics were not tried: no peer has their order"),
    },
    "sqs_sns": {
        **dict.fromkeys(CASES, Shown(NONE, "the same source as sqs, which shows it; only what a body is differs")),
        "C26": Shown(PEER, "moto makes the envelopes; 2,000 of them come from our own sender: moto is too slow"),
    },
}
