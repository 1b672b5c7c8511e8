"""``wojak sidecar check`` for Kafka: topics, rights, and settings of topics and brokers that would break the promises.

Nothing is created or changed: topics are asked for all together, because asking for one by name may make it. Whether a
topic may be written to shows only with the first record; that is said, not tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from sidecars.core.kinds import Finding, Level
from sidecars.sources.kafka_link import BROKEN, Seen, administration, client_options, look
from sidecars.sources.kafka_settings import KafkaSettings

HEADERS_BYTES: Final = 16 << 10  # what a dead letter is longer than its original
DAY_MS: Final = 86_400_000
LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")

_Configs = Mapping[str, str]


async def check(_name: str, settings: KafkaSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    options = client_options(settings.env_prefix)
    found = [_encryption(options)]
    try:
        seen = await look(options)
    except BROKEN as e:
        text = f"not reached, or refused: {str(e) or type(e).__name__}; check address, protocol and credentials"
        return [*found, Finding(Level.FAULT, "connection", text)]
    found.append(Finding(Level.FINE, "connection", f"cluster {seen.cluster_id} answers"))
    found += _topics(seen, settings)
    try:
        topics, broker = await _configs(options, [t for t in _names(settings) if t in seen.topics])
        found += await _group(options, settings)
    except BROKEN as e:
        text = f"could not be seen ({e}); grant DescribeConfigs, or compare them with docs/sources/kafka.md"
        return [*found, Finding(Level.ADVICE, "topic settings", text)]
    if settings.topic in topics:
        found += judge(topics[settings.topic], settings)
    if settings.dead_letter_topic in topics:
        found += judge_dead(topics[settings.dead_letter_topic], topics.get(settings.topic, {}), settings)
    return found + judge_broker(broker, settings)


def _names(settings: KafkaSettings) -> list[str]:
    names = (settings.topic, settings.dead_letter_topic, settings.results_topic, *settings.reply_to)
    return list(dict.fromkeys(filter(None, names)))


def _encryption(options: Mapping[str, Any]) -> Finding:
    protocol = options["security_protocol"]
    servers = options["bootstrap_servers"].split(",")
    if protocol.endswith("SSL") or all(s.strip().rpartition(":")[0] in LOCAL for s in servers):
        return Finding(Level.FINE, "encryption", protocol)
    return Finding(Level.ADVICE, "encryption", f"the protocol is {protocol}, orders pass readable; use SASL_SSL or SSL")


def _topics(seen: Seen, settings: KafkaSettings) -> list[Finding]:
    found = []
    for name in _names(settings):
        if name not in seen.topics:
            text = "expected to be there and to be seen, was not; make it, or grant Describe"
            found.append(Finding(Level.FAULT, f"topic {name}", text))
            continue
        partitions, replicas = seen.topics[name]
        if replicas < 2:
            text = f"{partitions} partitions, one replica: orders are lost with its broker; use three replicas"
            found.append(Finding(Level.ADVICE, f"topic {name}", text))
        else:
            found.append(Finding(Level.FINE, f"topic {name}", f"{partitions} partitions, {replicas} replicas"))
    return found


async def _configs(options: Mapping[str, Any], topics: Sequence[str]) -> tuple[dict[str, _Configs], _Configs]:
    """Return the settings of each topic, and of one broker."""
    async with administration(options) as admin:
        brokers = (await admin.describe_cluster())["brokers"]
        asked = [ConfigResource(ConfigResourceType.TOPIC, t) for t in topics]
        asked.append(ConfigResource(ConfigResourceType.BROKER, str(brokers[0]["node_id"])))
        answers = await admin.describe_configs(asked)
    found: dict[str, _Configs] = {}
    broker: _Configs = {}
    for answer in answers:
        for _error, _text, kind, name, entries in answer.resources:
            values = {entry[0]: entry[1] or "" for entry in entries}
            if kind == ConfigResourceType.TOPIC:
                found[name] = values
            else:
                broker = values
    return found, broker


async def _group(options: Mapping[str, Any], settings: KafkaSettings) -> list[Finding]:
    what = f"group {settings.group}"
    try:
        async with administration(options) as admin:
            offsets = await admin.list_consumer_group_offsets(settings.group)
    except BROKEN as e:
        return [Finding(Level.FAULT, what, f"{e}; grant Read and Describe on the group")]
    others = sorted({tp.topic for tp in offsets} - {settings.topic})
    if others:
        text = f"expected {settings.topic} alone, has offsets in {', '.join(others)} too; use a group of its own"
        return [Finding(Level.ADVICE, what, text)]
    return [Finding(Level.FINE, what, f"offsets in {len(offsets)} partitions")]


def judge(topic: _Configs, settings: KafkaSettings) -> list[Finding]:
    """Return what the settings of the topic mean for the promises."""
    found = []
    if "compact" in topic.get("cleanup.policy", ""):
        text = "expected delete, was compact; of two orders with one key the older one vanishes unseen"
        found.append(Finding(Level.FAULT, "cleanup.policy", text))
    if topic.get("unclean.leader.election.enable") == "true":
        text = "expected false, was true; acknowledged orders may be lost, and others come under their offsets"
        found.append(Finding(Level.FAULT, "unclean.leader.election.enable", text))
    retention_ms = int(topic.get("retention.ms") or -1)
    if 0 <= retention_ms < DAY_MS:
        text = f"{retention_ms} ms: orders that wait longer vanish unseen; use a day ({DAY_MS}) or more"
        found.append(Finding(Level.ADVICE, "retention.ms", text))
    if int(topic.get("retention.bytes") or -1) >= 0:
        text = "expected -1; orders vanish unseen when many wait"
        found.append(Finding(Level.ADVICE, "retention.bytes", text))
    if int(topic.get("min.insync.replicas") or 1) < 2:
        found.append(Finding(Level.ADVICE, "min.insync.replicas", "1: an order is safe on one broker only; use 2 of 3"))
    return found or [Finding(Level.FINE, f"topic {settings.topic}", "its settings keep the promises")]


def judge_dead(dead: _Configs, topic: _Configs, settings: KafkaSettings) -> list[Finding]:
    """Return what the settings of the dead letter topic mean."""
    what = f"topic {settings.dead_letter_topic}"
    found = []
    if "compact" in dead.get("cleanup.policy", ""):
        found.append(Finding(Level.FAULT, f"{what} cleanup.policy", "expected delete; letters with one key vanish"))
    if int(dead.get("retention.ms") or -1) >= 0:
        text = f"{dead['retention.ms']} ms: a letter nobody looked at vanishes then; use -1"
        found.append(Finding(Level.ADVICE, f"{what} retention.ms", text))
    wanted = int(topic.get("max.message.bytes") or 0) + HEADERS_BYTES
    has = int(dead.get("max.message.bytes") or 0)
    if topic and has < wanted:
        text = f"expected at least {wanted}, was {has}; the largest refused record would not fit and stop its partition"
        found.append(Finding(Level.FAULT, f"{what} max.message.bytes", text))
    return found


def judge_broker(broker: _Configs, settings: KafkaSettings) -> list[Finding]:
    """Return what the settings of the broker mean."""
    found = []
    least = int(broker.get("group.min.session.timeout.ms") or 0)
    most = int(broker.get("group.max.session.timeout.ms") or 2**31)
    if not least <= settings.session_timeout_ms <= most:
        text = f"expected {least} to {most}, as the broker allows, was {settings.session_timeout_ms}"
        found.append(Finding(Level.FAULT, "session_timeout_ms", text))
    if broker.get("auto.create.topics.enable") == "true":
        text = "true: a producer's misspelt topic is made and nobody reads it; use false"
        found.append(Finding(Level.ADVICE, "auto.create.topics.enable", text))
    return found
