"""A process tells how it is, whoever asks and however: slow, many, wrong; and says what to do when it can't."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.errors import ConfigError
from runtime.clock import monotonic_ns
from runtime.health import CONNECTIONS_MAX, REQUEST_BYTES_MAX, HealthServer, HealthSettings, served
from runtime.histogram import Histogram
from runtime.metrics import COUNTER, DURATION, GAUGE, SIZE, Board, Family, Snapshot

PATIENCE_S = 10.0
FAMILIES = (
    Family("wojak_x_seconds", DURATION, "How long"),
    Family("wojak_x_items", SIZE, "How many"),
    Family("wojak_x_done", COUNTER, "Done", ("code",)),
    Family("wojak_x_open", GAUGE, "Open"),
)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def server(board: Board, tmp_path: Path) -> Iterator[HealthServer]:
    made = HealthServer(
        HealthSettings(process="engine", socket_path=str(tmp_path / "s"), stall_ms=500), board, FAMILIES
    )
    made.start()
    yield made
    made.close()


def connect(path: Path) -> socket.socket:
    """Return a connection; one that nobody accepts yet waits in the kernel."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(PATIENCE_S)
    made.connect(str(path))
    return made


def ask(path: Path, request: bytes = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> tuple[int, str]:
    """Return status and body."""
    with connect(path) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


def get(path: Path, target: str) -> tuple[int, str]:
    return ask(path, f"GET {target} HTTP/1.1\r\n\r\n".encode())


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"expected {what}"
        time.sleep(0.005)


def test_metrics_are_what_was_published(server: HealthServer, board: Board, tmp_path: Path) -> None:
    """Counters, gauges, buckets, sums, and the percentiles of the last seconds, each with its number."""
    seconds, items = Histogram(), Histogram()
    for duration_us in (15, 150, 1_500):
        seconds.record(duration_us * 1_000)
    items.record(3)
    board.publish(
        Snapshot(
            1,
            {"wojak_x_done": {("OK",): 3, ("QTY_MAX",): 1}, "wojak_x_open": 7},
            {"wojak_x_seconds": seconds.snapshot(), "wojak_x_items": items.snapshot()},
        )
    )

    status, text = get(tmp_path / "s", "/metrics")

    assert status == 200
    for line in (
        'wojak_x_seconds_bucket{le="1e-05"} 0.0',
        'wojak_x_seconds_bucket{le="2e-05"} 1.0',
        'wojak_x_seconds_bucket{le="0.0002"} 2.0',
        'wojak_x_seconds_bucket{le="0.002"} 3.0',
        'wojak_x_seconds_bucket{le="+Inf"} 3.0',
        "wojak_x_seconds_count 3.0",
        "wojak_x_seconds_sum 0.001665",
        'wojak_x_recent_seconds{quantile="1"} 0.0015',
        'wojak_x_items_bucket{le="2.0"} 0.0',
        'wojak_x_items_bucket{le="4.0"} 1.0',
        'wojak_x_recent_items{quantile="0.5"} 3.0',
        'wojak_x_done_total{code="QTY_MAX"} 1.0',
        "wojak_x_open 7.0",
        "# HELP wojak_x_open Open",
    ):
        assert line in text.splitlines(), f"{line} not in\n{text}"
    assert "process_resident_memory_bytes" in text


def test_recent_percentiles_forget_what_is_older_than_the_kept_snapshots(
    server: HealthServer, board: Board, tmp_path: Path
) -> None:
    """Five snapshots after a slow second, the percentiles no longer know it; the histogram does."""
    seconds = Histogram()
    seconds.record(5_000_000_000)
    for second in range(7):
        seconds.record(1_000)
        board.publish(Snapshot(second, {}, {"wojak_x_seconds": seconds.snapshot()}))

    text = get(tmp_path / "s", "/metrics")[1]

    assert 'wojak_x_recent_seconds{quantile="1"} 1e-06' in text
    assert "wojak_x_seconds_count 8.0" in text


def test_ready_is_what_the_loop_says(server: HealthServer, board: Board, tmp_path: Path) -> None:
    """503 with every reason until the loop names none."""
    board.not_ready = ("recovering", "disk: 5 bytes free, reserve 9")
    status, text = get(tmp_path / "s", "/readyz")
    assert (status, text.strip()) == (503, '{"ready":false,"reason":"recovering; disk: 5 bytes free, reserve 9"}')
    assert get(tmp_path / "s", "/healthz")[0] == 200

    board.not_ready = ()

    assert get(tmp_path / "s", "/readyz")[0] == 200


def test_a_loop_that_hangs_is_not_alive(server: HealthServer, board: Board, tmp_path: Path) -> None:
    """Neither alive nor ready once the last turn is older than the setting; alive again when it turns."""
    board.not_ready = ()
    board.turned_ns = monotonic_ns()
    assert get(tmp_path / "s", "/healthz")[0] == 200

    board.turned_ns = monotonic_ns() - 600_000_000

    status, text = get(tmp_path / "s", "/healthz")
    assert status == 503
    assert "expected at most 500" in text
    assert get(tmp_path / "s", "/readyz")[0] == 503
    board.turned_ns = monotonic_ns()
    assert get(tmp_path / "s", "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /orders HTTP/1.1\r\n\r\n", 404),
        (b"\x00\xff\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n" + b"x" * REQUEST_BYTES_MAX, 431),
        (b"GET /metrics?a=1 HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_a_wrong_request_is_answered_and_the_next_one_served(
    server: HealthServer, tmp_path: Path, request_: bytes, status: int
) -> None:
    """Each fault has its status, and none ends the thread."""
    assert ask(tmp_path / "s", request_)[0] == status
    assert get(tmp_path / "s", "/healthz")[0] == 200


def test_head_has_no_body(server: HealthServer, tmp_path: Path) -> None:
    """HEAD answers as GET without its body."""
    assert ask(tmp_path / "s", b"HEAD /metrics HTTP/1.1\r\n\r\n") == (200, "")


def test_readers_that_never_ask_keep_nobody_waiting_for_ever(server: HealthServer, tmp_path: Path) -> None:
    """With every place taken by silent readers, the next one is served when their time is over."""
    silent = [connect(tmp_path / "s") for _ in range(CONNECTIONS_MAX)]

    assert get(tmp_path / "s", "/healthz")[0] == 200

    for connection in silent:
        assert connection.recv(1) == b""  # closed by the server
        connection.close()


def test_a_flood_leaves_the_loop_its_turns(server: HealthServer, board: Board, tmp_path: Path) -> None:
    """Eight readers that ask without end, one that never reads: a thousand turns of a loop beside them stay short."""
    histogram = Histogram()
    ended = threading.Event()
    asked = [0] * 8

    def flood(place: int) -> None:
        while not ended.is_set():
            asked[place] += get(tmp_path / "s", "/metrics")[0] == 200

    deaf = connect(tmp_path / "s")
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    board.publish(Snapshot(1, {}, {"wojak_x_seconds": histogram.snapshot()}))
    readers = [threading.Thread(target=flood, args=(place,)) for place in range(8)]
    began = time.monotonic()
    for reader in readers:
        reader.start()
    until(lambda: sum(asked) > 20, "a flood")
    turns_ns = []
    for turn in range(1_000):
        before_ns = monotonic_ns()
        board.turned_ns = before_ns
        histogram.record(turn)
        board.publish(Snapshot(turn, {}, {"wojak_x_seconds": histogram.snapshot()}))
        turns_ns.append(monotonic_ns() - before_ns)
    ended.set()
    for reader in readers:
        reader.join()
    deaf.close()

    # One accept every 10 ms, whoever asks; and no turn waited for a reader, the deaf one least of all.
    assert sum(asked) <= (time.monotonic() - began) * 100 + 1
    assert sorted(turns_ns)[500] < 5_000_000
    assert max(turns_ns) < 1_000_000_000


def test_a_port_in_use_is_named_with_what_to_do(board: Board) -> None:
    """The start says which key, which port, where, and both ways out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as refused:
            HealthServer(HealthSettings(process="gateway", port=port), board, FAMILIES)

    text = str(refused.value)
    assert f"metrics.gateway_port: expected a free port, was {port} on 127.0.0.1" in text
    assert "stop the program that has it, or change metrics.gateway_port (0 = none)" in text


def test_a_socket_folder_that_is_not_there_is_named(board: Board, tmp_path: Path) -> None:
    """So it is with the Unix socket."""
    with pytest.raises(ConfigError, match=r"metrics socket: expected .*none/s"):
        HealthServer(HealthSettings(socket_path=str(tmp_path / "none" / "s")), board, FAMILIES)


def test_the_socket_of_a_dead_process_is_taken_over(board: Board, tmp_path: Path) -> None:
    """A kill -9 leaves the file; the next start serves there."""
    path = tmp_path / "s"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(path))
    dead.close()

    with served(HealthSettings(socket_path=str(path)), board, FAMILIES) as serve:
        serve()
        assert get(path, "/healthz")[0] == 200
    assert not path.exists()


def test_both_addresses_serve_the_same(board: Board, tmp_path: Path) -> None:
    """A port for Prometheus, a socket for the command line."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with served(HealthSettings(socket_path=str(tmp_path / "s"), port=port), board, FAMILIES) as serve:
        serve()
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 503")
        assert get(tmp_path / "s", "/readyz")[0] == 503
