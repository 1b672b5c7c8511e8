"""The commented ``wojak.toml`` that ``wojak init`` writes: the demonstration, and a start for your own.

Rule: every key a newcomer may want stands here with what it does; a test loads this text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

EXAMPLE: Final = """\
# Wojak, one deployment. Everything is checked before anything starts; faults are named by key and value.
# Prices, quantities and money are decimal strings. All keys: docs/reference/config.md

[wojak]
mode = "paper"              # nothing here can reach a real venue
shard = 0
state_dir = ".wojak"        # journal, books, logs, sockets; relative to this file
# opening_file = "opening.toml"   # positions and cash held before the journal began

[feed]
source = "synthetic"        # a seeded session, labelled SYNTHETIC wherever its prices show
# source = "binance"        # or a recording of Binance's websocket, replayed:
# path = "btcusdt_20240808.gz"
instrument = "BTCUSDT"
speed = 1.0                 # 1 = as recorded, 10 = ten times as fast, 0 = as fast as it goes
seed = 1

[[instruments]]
instrument = "BTCUSDT"
venue = "sandbox"
currency = "USDT"
kind = "linear"
price_step = "0.1"          # immutable units the engine counts in ...
quantity_step = "0.001"
tick = "0.1"                # ... and today's multiples of them, which the gate checks
lot = "0.001"
quantity_min = "0.001"
quantity_max = "1000"
collar_bp = 100             # PRICE_COLLAR: refuse prices farther than 1 % from the reference
tick_age_max_ms = 5000      # REF_STALE: a reference older than this is none
taker_fee_bp = "5"          # 0.05 %
maker_fee_bp = "2"          # 0.02 %

[[accounts]]
account = "demo"            # yours
currency = "USDT"

[[accounts]]
account = "flow"            # the demonstration flow's
currency = "USDT"

[[strategies]]
strategy = "manual"

[[strategies]]
strategy = "flow"

# Who may trade what.
[[principals]]
principal = "local"
accounts = ["demo", "flow"]
strategies = ["manual", "flow"]

# Through which source each of them may come.
[[sources]]
source = "http"
principals = ["local"]

# Limits: every scope with a row is checked, the tightest binds. wojak limits check names faults with their line,
# wojak limits explain says what every check makes of an order. Rows may carry dates, a soft value, unit and source.
# [risk]
# presets = ["nse-fo"]            # rows that come with Wojak, cited ones only: docs/risk.md
# limits_file = "limits.toml"     # or all rows in a file of their own, which wojak limits apply takes while it runs
[[limits]]
limit = "QUANTITY_MAX"
scope = "account"
key = "demo"
value = "50"

[[limits]]
limit = "POSITION_MAX"
scope = "account"
key = "demo"
value = "5.00"

[[limits]]
limit = "QUANTITY_MAX"
scope = "account"
key = "flow"
value = "5"

[[limits]]
limit = "POSITION_MAX"
scope = "account"
key = "flow"
value = "40"

[[limits]]
limit = "ORDER_VALUE_MAX"
value = "5000000"

[[limits]]
limit = "OPEN_COUNT_MAX"
scope = "account"
key = "flow"
value = 500

[[limits]]
limit = "RATE_COUNT"
scope = "strategy"
key = "manual"
value = 50
window_ms = 1000
reserve_exit = 10

# The trading day: at its end DAY orders expire; an order id may be used again after the day that follows it.
[session]
timezone = "UTC"
roll_time = "00:00"         # the midnight that ends the date; "15:30" = at that time of it
weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
holidays = []               # "2026-12-25"

[http]
host = "127.0.0.1"
port = 8081
loopback_principal = "local"   # for the demonstration: requests from this host need no key
# [[http.keys]]
# name = "desk-1"
# principal = "local"
# secret_env = "WOJAK_KEY_DESK_1"   # or secret_file = "desk-1.key"
# kind = "hmac"                     # it signs each request instead of being shown; TLS and more: docs/sources/http.md

# Orders from brokers too, a process each, started by wojak up: docs/sources. First: wojak sidecar check desk-mq
# [[sources]]
# source = "desk-mq"
# principals = ["local"]
# [[sidecars]]
# source = "desk-mq"
# kind = "rabbitmq"                 # or kafka, sqs, or what another package brings; its address is in the environment
# settings = { queue = "orders", principal = "local", dead_letter_queue = "orders.dead" }

[books]
host = "127.0.0.1"
port = 8080

[flow]                         # wojak up --flow
rate = 200                     # orders a second
account = "flow"
strategy = "flow"
instrument = "BTCUSDT"
seed = 1
"""


def write_example(path: Path) -> bool:
    """Write the example; False if a file is there already, which stays as it is."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except FileExistsError:
        return False
    return True
