"""``wojak.toml``: the one configuration file of a deployment, typed. What spans several keys is in ``cli.problems``.

Rule: unknown keys are refused, numbers are bounded, prices, quantities and money are decimal strings, durations are
whole milliseconds. docs/reference/config.md is generated from these classes, so each attribute says what it does.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from cli.alert_rows import AlertsSection
from cli.books_rows import BooksSection
from cli.limit_rows import ContractRow, HoursRow, LimitRow, RestrictionRow, RiskSection
from cli.risk_rows import RiskServiceSection, RouteRow
from cli.sidecar_rows import SidecarRow
from market.instruments import InstrumentRow
from protocol.edge import BODY_BYTES_MAX, ORDERS_MAX, Identifier
from protocol.shards import SHARDS_MAX

Port = Annotated[int, Meta(ge=1, le=65_535)]
Milliseconds = Annotated[int, Meta(ge=1, le=7 * 86_400_000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
NotNegative = Annotated[int, Meta(ge=0, le=2**63 - 1)]
ShardNumber = Annotated[int, Meta(ge=0, le=SHARDS_MAX - 1)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
CONFIG_NAME: Final = "wojak.toml"


class WojakSection(Struct, frozen=True, forbid_unknown_fields=True):
    """What this deployment is.

    Attributes:
        mode: ``paper``: nothing here can reach a real venue.
        shard: Number of this engine where it is the only one here; 0 with several ``shards``.
        shards: Engines among which the accounts are divided, each with its own journal, gateway and books.
        state_dir: Folder of everything that is kept; relative to this file.
        opening_file: Positions, cash, collateral and exchange rates of before the journal began, read at its first
            start; empty = none.
    """

    mode: Literal["paper", "live"] = "paper"
    shard: ShardNumber = 0
    shards: Annotated[int, Meta(ge=1, le=SHARDS_MAX)] = 1
    state_dir: Text = ".wojak"
    opening_file: str = ""


class EngineSection(Struct, frozen=True, forbid_unknown_fields=True):
    """How the engine works; the defaults fit one host.

    Attributes:
        order_age_max_ms: An order made longer ago is refused MESSAGE_EXPIRED.
        skew_max_ms: How far ahead a producer's clock may be (TIME_MESSAGE_FUTURE).
        send_age_max_ms: An order accepted longer ago is checked again before it is sent.
        credits: Items one session may have unanswered.
        reserved_credits: So many more for cancels and reduce-only orders.
        batch_max: Orders and cancels, about, that are decided before one sync.
        segment_bytes: Size of a journal segment.
        dedup_keys_max: Order ids that can be remembered; when full, new risk is told to come back later.
        huge_pages: Keep the table of order ids in pages of 2 MiB: faster, and all its memory is taken at once.
        direct_io: Write the journal past the page cache: some 40 µs sooner durable on a fast disk, but who follows the
            journal reads it from the disk.
        disk_reserve_bytes: Free space below which new risk is told to come back later.
        lease_ms: A venue whose gateway was silent this long takes no new order.
        venue_window: Commands to one gateway that may be unacknowledged.
        venue_wait_ms: How long a new order waits for a venue that is down before VENUE_DOWN.
        drain_ms: Time to finish in after SIGTERM.
        pnl_age_max_ms: Where losses are limited: profit valued at an older price is unknown (PNL_UNKNOWN).
        exit_slots: Open orders beyond the limit that only exits may use.
    """

    order_age_max_ms: Milliseconds = 60_000
    skew_max_ms: Milliseconds = 1_000
    send_age_max_ms: Milliseconds = 2_000
    credits: Annotated[int, Meta(ge=1, le=65_536)] = 4_096
    reserved_credits: Annotated[int, Meta(ge=0, le=65_536)] = 256
    batch_max: Annotated[int, Meta(ge=1, le=1_024)] = 1_024
    segment_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 30)] = 64 << 20
    dedup_keys_max: Annotated[int, Meta(ge=1_000, le=200_000_000)] = 4_000_000
    huge_pages: bool = False
    direct_io: bool = False
    disk_reserve_bytes: NotNegative = 256 << 20
    lease_ms: Milliseconds = 1_000
    venue_window: Annotated[int, Meta(ge=1, le=65_536)] = 8_192
    venue_wait_ms: Annotated[int, Meta(ge=0, le=600_000)] = 5_000
    drain_ms: Milliseconds = 10_000
    pnl_age_max_ms: Milliseconds = 10_000
    exit_slots: Annotated[int, Meta(ge=0, le=1_000)] = 5


class SessionSection(Struct, frozen=True, forbid_unknown_fields=True):
    """When trading days end: DAY orders expire, old order ids leave. The sandbox venue ends its session then too.

    Attributes:
        automatic: Whether the calendar ends them; if not, only `wojak session roll` does.
        timezone: IANA name of the zone that ``roll_time`` is in.
        roll_time: HH:MM at which the session of a trading date ends; 00:00 = the midnight after it.
        weekdays: Trading days, of mon tue wed thu fri sat sun.
        holidays: Dates without a session, yyyy-mm-dd.
    """

    automatic: bool = True
    timezone: Text = "UTC"
    roll_time: Text = "00:00"
    weekdays: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    holidays: tuple[str, ...] = ()


class FeedSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Where ticks come from.

    Attributes:
        source: ``synthetic`` makes a seeded session, labelled so wherever it shows; ``binance`` replays a recording.
        path: The recording, for ``binance``; relative to this file.
        instrument: The instrument of the recording.
        speed: 1 = as recorded, 10 = ten times as fast, 0 = as fast as it goes.
        seed: Of the synthetic session.
    """

    source: Literal["synthetic", "binance"] = "synthetic"
    path: str = ""
    instrument: Identifier = "BTCUSDT"
    speed: Annotated[float, Meta(ge=0, le=100_000)] = 1.0
    seed: NotNegative = 1


class AccountRow(Struct, frozen=True, forbid_unknown_fields=True):
    """An account and the currency its money limits are in.

    Attributes:
        account: Its name.
        currency: Of its money limits.
        cancel_on_disconnect_ms: For this account's orders instead of what their source says; -1 = as the source says,
            0 = never.
        shard: The engine it belongs to; absent = where the hash says.
        checks_cash: Premiums, spot purchases and fees have to be covered by cash (CASH_INSUFFICIENT).
        checks_margin: The margin of the worst case has to be covered (MARGIN_ESTIMATE).
        option_write: Options may be sold beyond what is held (PERM_OPTION_WRITE).
        short_sell: Likewise cash equity and spot (PERM_SHORT_SELL).
        checks_crossing: Its orders may not trade with each other (STP_CROSS); exits pass.
    """

    account: Identifier
    currency: Annotated[str, Meta(min_length=1, max_length=16)]
    cancel_on_disconnect_ms: Annotated[int, Meta(ge=-1, le=600_000)] = -1
    shard: ShardNumber | None = None
    checks_cash: bool = False
    checks_margin: bool = False
    option_write: bool = True
    short_sell: bool = True
    checks_crossing: bool = False


class StrategyRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A strategy.

    Attributes:
        strategy: Its name.
        ttl_ms: Its orders older than this are refused TIME_MESSAGE_STALE; 0 = never.
        algo_id: What the exchange registered it under, where ``hours.needs_algo_id`` asks for one.
        option_write: Options may be sold beyond what is held (PERM_OPTION_WRITE).
        short_sell: Likewise cash equity and spot (PERM_SHORT_SELL).
    """

    strategy: Identifier
    ttl_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0
    algo_id: Annotated[str, Meta(max_length=64)] = ""
    option_write: bool = True
    short_sell: bool = True


class PrincipalRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may trade what; ``"*"`` stands for all."""

    principal: Identifier
    accounts: tuple[str, ...]
    strategies: tuple[str, ...]


class SourceRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A message source that may open sessions, and the principals it may speak for; ``"*"`` stands for all.

    Attributes:
        cancel_on_disconnect_ms: Cancel its open orders when no sidecar of it was heard for `engine.lease_ms` and then
            so long; a reconnect or a restart of the engine within that cancels nothing. 0 = keep them.
        keep_exits: Orders that only reduce a position stay then.
    """

    source: Identifier
    principals: tuple[str, ...]
    cancel_on_disconnect_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    keep_exits: bool = True


class HttpKeyRow(Struct, frozen=True, forbid_unknown_fields=True):
    """An API key: its secret stands in the environment or in a file, never here.

    Several keys may speak for one principal, so that a new one is in use before the old one goes.

    Attributes:
        name: For people; of a key that signs, its keyid.
        principal: Who the key speaks for.
        secret_env: Environment variable that holds the secret; or
        secret_file: file that holds it, relative to this one.
        orders_per_s: New risk the principal may send a second (HTTP 429), by all its keys; 0 = no limit.
        kind: ``bearer`` is shown with each request; ``hmac`` signs each request (RFC 9421), never sent; its secret
            has at least 32 characters.
        burst: So much of it may come at once; 0 = one second's worth.
    """

    name: Identifier
    principal: Identifier
    secret_env: str = ""
    secret_file: str = ""
    orders_per_s: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    kind: Literal["bearer", "hmac"] = "bearer"
    burst: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class HttpCertificateRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A client certificate that stands for a principal.

    Attributes:
        identity: The name in it that ``http.tls.identity`` chooses, whole.
        principal: Who it speaks for.
        orders_per_s: As of a key of the same principal.
        burst: Likewise.
    """

    identity: Annotated[str, Meta(min_length=1, max_length=1024)]
    principal: Identifier
    orders_per_s: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    burst: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class HttpTlsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """TLS of the HTTP source, 1.2 or newer. Files are relative to this one, and read again on SIGHUP.

    Attributes:
        certificate_file: The certificate and what leads to its root, PEM; empty = plain HTTP.
        key_file: Its private key, PEM, without a passphrase.
        client_ca_file: Authorities of clients' certificates, PEM; empty = none is asked for.
        client_certificate: ``required``: orders need one of ``http.certificates``; ``optional``: a key will do as well.
        identity: The name of a client certificate that counts; it must have exactly one of that kind.
    """

    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_certificate: Literal["optional", "required"] = "optional"
    identity: Literal["san_uri", "san_dns", "san_email", "common_name"] = "san_uri"


class HttpSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP source of orders.

    Attributes:
        host: Address to listen on. Anything but this host needs keys.
        port: Port to listen on.
        loopback_principal: Requests from this host without a key speak for this principal; empty = keys only.
        keys: API keys.
        signature_window_s: How old a signature may be.
        body_bytes_max: A larger body is refused (HTTP 413).
        orders_max: Orders in one array.
        head_bytes_max: Request line and headers together.
        head_ms: A request's head, and the handshake of TLS, must have come within this.
        receive_ms: And the request within this, or it is answered HTTP 408.
        send_ms: A client that does not read its answer within this is disconnected.
        connections_max: Clients connected at once.
        connections_per_address: Of them from one address (IPv6: one network of 64 bits); 0 = no bound of its own.
        certificates: Client certificates.
        tls: TLS.
    """

    host: Text = "127.0.0.1"
    port: Port = 8081
    loopback_principal: str = ""
    keys: tuple[HttpKeyRow, ...] = ()
    signature_window_s: Annotated[int, Meta(ge=1, le=300)] = 30
    body_bytes_max: Annotated[int, Meta(ge=1_024, le=BODY_BYTES_MAX)] = 256 << 10
    orders_max: Annotated[int, Meta(ge=1, le=ORDERS_MAX)] = ORDERS_MAX
    head_bytes_max: Annotated[int, Meta(ge=1_024, le=65_536)] = 16 << 10
    head_ms: Annotated[int, Meta(ge=100, le=600_000)] = 5_000
    receive_ms: Annotated[int, Meta(ge=100, le=600_000)] = 10_000
    send_ms: Annotated[int, Meta(ge=100, le=600_000)] = 10_000
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 768
    connections_per_address: Annotated[int, Meta(ge=0, le=100_000)] = 256
    certificates: tuple[HttpCertificateRow, ...] = ()
    tls: HttpTlsSection = HttpTlsSection()


class GatewaySection(Struct, frozen=True, forbid_unknown_fields=True):
    """The gateway of the sandbox venue.

    Attributes:
        cancel_on_engine_loss_ms: Cancel what is open when the engine was not heard for so long; 0 = keep it.
    """

    cancel_on_engine_loss_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0


class ControlSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Control over tcp, with keys of `wojak keys new`; over the host's own socket it needs none of this.

    Attributes:
        listen: Address the engine listens on, such as `tcp://0.0.0.0:7400`; empty = none. Shard n takes the n-th port
            after it.
        key_file: The engine's own secret key, for `listen`; relative to this file.
        allowed_dir: Folder with the public keys that may ask, for `listen`: looked at again whenever it changes.
        connect: Address of an engine elsewhere that the commands here speak to; empty = this host's.
        client_key_file: The secret key they show, for `connect`.
        server_key_file: The public key of that engine, for `connect`.
    """

    listen: str = ""
    key_file: str = ""
    allowed_dir: str = ""
    connect: str = ""
    client_key_file: str = ""
    server_key_file: str = ""


class FollowerSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The follower: a replica of the engine that writes snapshots, from which the next start recovers.

    Attributes:
        snapshot_records: A snapshot after so many records; so many are read again at a start, at most about.
        snapshot_ms: Or after this time, if anything happened.
        snapshots_kept: The newest so many; older ones are removed.
    """

    snapshot_records: Annotated[int, Meta(ge=100, le=1_000_000_000)] = 250_000
    snapshot_ms: Milliseconds = 300_000
    snapshots_kept: Annotated[int, Meta(ge=1, le=100)] = 2


class MetricsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the processes without an address of their own serve ``/metrics``, ``/healthz`` and ``/readyz``.

    With several shards those of shard 1 have the next port, and so on.

    Attributes:
        host: Address of the ports below; 127.0.0.1 keeps them on this host. They need no key: they only tell.
        engine_port: Of the engine; 0 = none. Here as below: ``wojak top`` needs no port.
        gateway_port: Of the venue gateway.
        feed_port: Of the feed.
        books_port: Of the books writer.
        follower_port: Of the follower.
        stall_ms: A process whose loop has not turned for so long is not alive (``/healthz``).
    """

    host: Text = "127.0.0.1"
    engine_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    gateway_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    feed_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    books_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    follower_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    stall_ms: Milliseconds = 10_000

    def port_of(self, process: str) -> int:
        """Return the port of a process, 0 for none."""
        ports = {"engine": self.engine_port, "gateway": self.gateway_port, "feed": self.feed_port}
        return {**ports, "books": self.books_port, "follower": self.follower_port}.get(process, 0)


class FlowSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The demonstration flow: orders around the touch, some outside every limit, sent over HTTP.

    Attributes:
        rate: Orders a second.
        account: Trades this account and no other.
        strategy: Under this strategy.
        instrument: In this instrument.
        seed: Of what it sends.
    """

    rate: Annotated[int, Meta(ge=1, le=20_000)] = 200
    account: Identifier = "flow"
    strategy: Identifier = "flow"
    instrument: Identifier = "BTCUSDT"
    seed: NotNegative = 1


class WojakConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    instruments: tuple[InstrumentRow, ...]
    accounts: tuple[AccountRow, ...]
    strategies: tuple[StrategyRow, ...]
    principals: tuple[PrincipalRow, ...]
    sources: tuple[SourceRow, ...]
    limits: tuple[LimitRow, ...] = ()
    contracts: tuple[ContractRow, ...] = ()
    hours: tuple[HoursRow, ...] = ()
    restrictions: tuple[RestrictionRow, ...] = ()
    risk: RiskSection = RiskSection()
    routes: tuple[RouteRow, ...] = ()
    risk_service: RiskServiceSection = RiskServiceSection()
    wojak: WojakSection = WojakSection()
    engine: EngineSection = EngineSection()
    session: SessionSection = SessionSection()
    feed: FeedSection = FeedSection()
    http: HttpSection = HttpSection()
    gateway: GatewaySection = GatewaySection()
    control: ControlSection = ControlSection()
    books: BooksSection = BooksSection()
    follower: FollowerSection = FollowerSection()
    metrics: MetricsSection = MetricsSection()
    alerts: AlertsSection = AlertsSection()
    flow: FlowSection = FlowSection()
    sidecars: tuple[SidecarRow, ...] = ()
