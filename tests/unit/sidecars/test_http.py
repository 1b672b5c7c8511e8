"""Orders over a real loopback socket against a real protocol peer: statuses, bodies, headers, replays."""

from __future__ import annotations

import threading

import httpx
import pytest

from cli.http_client import OrdersClient
from protocol.orders import ReplaceOrder, command_decoder
from protocol.session import Drain, Drained, Leave, Submit
from sidecars.sources.http_keys import HttpKey
from tests.unit.sidecars.conftest import ORDER, Stage, until


def test_an_order_is_accepted_with_its_evidence(running: Stage) -> None:
    """201 with the whole body; the command reaches the engine in exact integers."""
    answer = running.send(1)

    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert (body["outcome"], body["client_order_id"], body["account"], body["code"]) == ("ACCEPTED", "c1", "acc", "OK")
    assert body["order_id"].startswith("P-")
    assert (body["position_after"], body["position_limit"], body["mode"]) == ("0.01", "5", "PAPER")
    assert (body["durable_in_us"], body["checks_passed"]) == (118, 12)
    (item,) = running.journal.items
    assert (item.principal, item.lane) == ("demo", "acc")
    assert 0 < item.lease_left_ms <= 3000
    assert item.trace_id.hex() == body["trace_id"]


def test_a_repeat_gets_the_first_answer_and_says_so(running: Stage) -> None:
    """Same status, same body, the header, duplicate_of and the current state; one effect."""
    first = running.send(1)
    again = running.send(1)

    assert (first.status_code, again.status_code) == (201, 201)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["order_id"] == first.json()["order_id"]
    assert (again.json()["duplicate_of"], again.json()["order_state"]) == ("c1", "FILLED")
    assert len(running.journal.outcomes) == 1


@pytest.mark.parametrize(
    ("strategy", "status", "code"), [("refuse", 422, "QTY_MAX"), ("forbidden", 403, "AUTH_NOT_PERMITTED")]
)
def test_a_refusal_is_an_answer(running: Stage, strategy: str, status: int, code: str) -> None:
    """422 for a limit, 403 for a permission, each with code and text."""
    answer = running.send(1, strategy=strategy)

    assert (answer.status_code, answer.json()["outcome"], answer.json()["code"]) == (status, "REJECTED", code)
    assert answer.json()["text"].startswith(code)


def test_an_id_with_other_content_is_a_conflict(running: Stage) -> None:
    """409, and the first order stands."""
    running.send(1)

    assert running.send(1, quantity="0.02").status_code == 409


def test_a_cancel_goes_by_account_and_id(running: Stage) -> None:
    """201 for a known order, 202 for one not seen yet; slashes inside a name come as %2F."""
    running.send(1)
    running.send("a/b")

    known = httpx.delete(f"{running.url}/v1/orders/acc/c1")
    slashed = httpx.delete(f"{running.url}/v1/orders/acc/ca%2Fb")
    unknown = httpx.delete(f"{running.url}/v1/orders/acc/c9")

    assert (known.status_code, slashed.status_code, unknown.status_code) == (201, 201, 202)
    assert unknown.json()["code"] == "TOMBSTONE"
    assert unknown.json()["client_order_id"] == "c9"


def test_the_commands_reach_ids_with_a_slash(running: Stage) -> None:
    """The legs of a basket are named so: cancel and replace of `wojak order` find them."""
    running.send("b/2")
    client = OrdersClient(running.url, {})

    replaced = client.replace("acc", "cb/2", {"client_order_id": "r1", "quantity": "0.02"})
    cancelled = client.cancel("acc", "cb/2")
    client.close()

    assert (replaced["outcome"], replaced["client_order_id"]) == ("ACCEPTED", "r1")
    assert (cancelled["client_order_id"], cancelled["code"]) == ("cb/2", "OK")


def test_a_replace_goes_by_the_order_and_its_own_id(running: Stage) -> None:
    """201 with the state PENDING_REPLACE on repeat; the command reaches the engine in exact integers."""
    running.send(1)
    url = f"{running.url}/v1/orders/acc/c1"

    taken = httpx.put(url, json={"client_order_id": "r1", "quantity": "0.02", "price": "61750.5"})
    again = httpx.put(url, json={"quantity": "0.02", "price": "61750.5"}, headers={"Idempotency-Key": "r1"})
    unknown = httpx.put(f"{running.url}/v1/orders/acc/c9", json={"client_order_id": "r2", "price": "1"})

    assert (taken.status_code, again.status_code, unknown.status_code) == (201, 201, 422)
    assert (taken.json()["client_order_id"], again.json()["duplicate_of"]) == ("r1", "r1")
    assert unknown.json()["code"] == "ORDER_UNKNOWN"
    command = command_decoder.decode(running.journal.items[1].command)
    assert command == ReplaceOrder("acc", "r1", "c1", 20_000_000, 61_750_500_000_000)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"client_order_id": "r1"}, "quantity"), ({"price": "1"}, "client_order_id"),
        ({"client_order_id": "r1", "quantity": "0"}, "quantity"), ({"client_order_id": "r1", "price": 5}, "price"),
        ({"client_order_id": "r1", "side": "BUY"}, "side"), ({"client_order_id": "r1", "price": "1e3"}, "price"),
    ],
)  # fmt: skip
def test_a_replace_that_asks_nothing_clear_is_refused_here(running: Stage, body: dict[str, object], field: str) -> None:
    """400 names the field; the engine hears nothing of it."""
    answer = httpx.put(f"{running.url}/v1/orders/acc/c1", json=body)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert running.journal.items == []


def test_the_idempotency_key_names_the_order_where_the_body_does_not(running: Stage) -> None:
    """Key alone is the id; equal to the body's is fine; differing or none at all is 400 and says so."""
    alone = running.post(ORDER, idempotency_key="k1")
    equal = running.post({**ORDER, "client_order_id": "k2"}, idempotency_key="k2")
    differing = running.post({**ORDER, "client_order_id": "k3"}, idempotency_key="other")
    neither = running.post(ORDER)

    assert (alone.status_code, alone.json()["client_order_id"]) == (201, "k1")
    assert equal.status_code == 201
    assert (differing.status_code, differing.json()["error"]["field"]) == (400, "client_order_id")
    assert "Idempotency-Key (other)" in differing.json()["error"]["text"]
    assert (neither.status_code, neither.json()["error"]["field"]) == (400, "client_order_id")
    assert "Idempotency-Key header" in neither.json()["error"]["text"]


def test_an_array_has_a_status_per_item(running: Stage) -> None:
    """200; accepted, refused, malformed and nameless items side by side, in order."""
    orders = [
        {**ORDER, "client_order_id": "a"},
        {**ORDER, "client_order_id": "b", "strategy": "refuse"},
        {**ORDER, "client_order_id": "c", "quantity": 1},
        ORDER,
        {**ORDER, "client_order_id": "a"},
    ]
    answer = running.post(orders)

    items = answer.json()
    assert answer.status_code == 200
    assert [i["http_status"] for i in items] == [201, 422, 400, 400, 201]
    assert items[2]["error"]["field"] == "quantity"
    assert items[3]["error"]["field"] == "client_order_id"
    assert items[4]["duplicate_of"] == "a"


@pytest.mark.parametrize("body", [[], [{}] * 501])
def test_an_array_has_bounds(running: Stage, body: list[object]) -> None:
    """None, or more than 500, is 400."""
    answer = running.post(body)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "body")


def test_an_array_takes_no_idempotency_key(running: Stage) -> None:
    """One key can't name many orders."""
    answer = running.post([{**ORDER, "client_order_id": "a"}], idempotency_key="a")

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "Idempotency-Key")


def test_the_trace_goes_through(running: Stage) -> None:
    """The trace id of traceparent comes back and reaches the engine; a broken or zero one is replaced."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    good = running.post({**ORDER, "client_order_id": "t"}, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    zero = running.post({**ORDER, "client_order_id": "z"}, traceparent=f"00-{'0' * 32}-00f067aa0ba902b7-01")

    assert good.json()["trace_id"] == trace == running.journal.items[0].trace_id.hex()
    assert zero.json()["trace_id"] != "0" * 32


def test_created_at_is_the_callers_or_the_arrival(running: Stage) -> None:
    """A body's created_at_ns goes as it is; without one it is the wall clock at arrival."""
    running.send(1, created_at_ns=1234567890)
    running.send(2)

    first, second = running.journal.items
    assert first.created_at_ns == 1234567890
    assert second.created_at_ns > 1_600_000_000_000_000_000


def test_keys_carry_their_principal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bearer or X-API-Key; without a key, or with a wrong one, 401 and nothing reaches the engine."""
    monkeypatch.setenv("DESK_SECRET", "correct horse battery staple")
    (stage.folder / "algo").write_text("another secret of length\n")
    stage.engine()
    keys = (
        HttpKey(principal="desk", secret_env="DESK_SECRET"),
        HttpKey(principal="algo", secret_file=str(stage.folder / "algo")),
    )
    stage.start(keys=keys, loopback_principal="").wait_open()

    bearer = stage.post({**ORDER, "client_order_id": "1"}, authorization="Bearer correct horse battery staple")
    header = stage.post({**ORDER, "client_order_id": "2"}, x_api_key="another secret of length")
    for refused in (
        stage.post({**ORDER, "client_order_id": "3"}),
        stage.post({**ORDER, "client_order_id": "4"}, authorization="Bearer wrong"),
        stage.post({**ORDER, "client_order_id": "5"}, authorization="Basic correct horse battery staple"),
        httpx.delete(f"{stage.url}/v1/orders/acc/1"),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
        assert refused.headers["www-authenticate"] == "Bearer"

    assert (bearer.status_code, header.status_code) == (201, 201)
    assert [i.principal for i in stage.journal.items] == ["desk", "algo"]


def test_a_wrong_key_is_not_saved_by_loopback(running: Stage) -> None:
    """Who shows a key is judged by it."""
    assert running.post({**ORDER, "client_order_id": "1"}, x_api_key="wrong").status_code == 401


def test_the_keys_own_rate_is_429_and_never_stops_a_cancel(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """New risk past the rate is 429 with Retry-After; cancels and reduce-only orders pass."""
    monkeypatch.setenv("DESK_SECRET", "correct horse battery staple")
    stage.engine()
    key = HttpKey(principal="desk", secret_env="DESK_SECRET", orders_per_s=1, burst=2)
    stage.start(keys=(key,), loopback_principal="").wait_open()
    secret = "correct horse battery staple"

    statuses = [stage.post({**ORDER, "client_order_id": f"{n}"}, x_api_key=secret) for n in range(3)]
    exit_ = stage.post({**ORDER, "client_order_id": "x", "reduce_only": True}, x_api_key=secret)
    cancel = httpx.delete(f"{stage.url}/v1/orders/acc/0", headers={"x-api-key": secret})

    assert [s.status_code for s in statuses] == [201, 201, 429]
    assert int(statuses[2].headers["retry-after"]) >= 1
    assert statuses[2].json()["error"]["code"] == "RATE_LIMITED"
    assert (exit_.status_code, cancel.status_code) == (201, 201)


def test_an_engine_that_is_away_is_503(stage: Stage) -> None:
    """Known as not taken: 503 with Retry-After, and readiness tells it."""
    stage.start()

    answer = stage.send(1)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ENGINE_AWAY")
    assert int(answer.headers["retry-after"]) >= 1
    ready = httpx.get(f"{stage.url}/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert httpx.get(f"{stage.url}/healthz").status_code == 200


def test_an_engine_without_an_answer_is_504(stage: Stage) -> None:
    """No outcome is made up: past the deadline the caller hears that it is unknown and that retry is safe."""
    stage.engine()
    stage.start(request_ms=300, hold_ms=100).wait_open()

    answer = stage.send(1, strategy="mute")

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "OUTCOME_UNKNOWN")
    assert "c1" in answer.json()["error"]["text"]


def test_a_restarted_engine_gets_everything_unanswered_again(stage: Stage) -> None:
    """Killed before it answered, back under a new epoch: the caller gets the first outcome, once."""
    stage.engine()
    stage.start().wait_open()
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(stage.send(1, strategy="mute")))
    thread.start()
    until(lambda: stage.journal.items, "a submit")
    stage.kill_engine()
    stage.engine()
    thread.join(5)

    assert answers[0].status_code == 201
    assert answers[0].json()["duplicate_of"] == "c1"
    assert len(stage.journal.outcomes) == 1
    assert stage.sidecars[0].sidecar.session.epoch == 2


def test_a_zombie_engine_is_refused(stage: Stage) -> None:
    """An engine of a lower epoch gets no order; readiness says which one was expected."""
    stage.journal.epoch = 4
    stage.engine()
    stage.start().wait_open()
    stage.kill_engine()
    zombie = stage.engine(epoch=3)

    until(lambda: "FENCED" in stage.sidecars[0].sidecar.session.fault, "the refusal")

    assert stage.send(1).status_code == 503
    assert not [m for m in zombie.received if isinstance(m, Submit)]
    assert "epoch 3" in httpx.get(f"{stage.url}/readyz").json()["reason"]


def test_an_engine_that_holds_new_risk_is_503_and_recovers(stage: Stage) -> None:
    """RETRY is held for hold_ms, then 503; cancels go on; after Resume orders pass again."""
    peer = stage.engine()
    stage.start(hold_ms=100).wait_open()
    peer.holds_risk = True

    held = stage.send(1)
    cancel = httpx.delete(f"{stage.url}/v1/orders/acc/x")
    peer.holds_risk = False

    assert (held.status_code, held.json()["error"]["code"]) == (503, "ENGINE_BUSY")
    assert cancel.status_code == 202
    until(lambda: stage.send(2).status_code == 201, "acceptance after Resume")


def test_a_short_hold_is_not_noticed(stage: Stage) -> None:
    """An engine that takes new risk again within hold_ms answers the very request that waited."""
    peer = stage.engine()
    stage.start(hold_ms=2000).wait_open()
    peer.holds_risk = True
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(stage.send(1)))
    thread.start()
    until(lambda: stage.journal.items, "a submit")
    peer.holds_risk = False
    thread.join(5)

    assert answers[0].status_code == 201


def test_credits_are_503_and_the_reserve_is_for_cancels(stage: Stage) -> None:
    """With every credit out a new order is 503 at once, a cancel still passes."""
    peer = stage.engine(credits=2, reserved=2)
    stage.start(request_ms=1000, hold_ms=100).wait_open()
    peer.is_mute = True
    threads = [threading.Thread(target=stage.send, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(stage.journal.items) == 2, "two submits")

    full = stage.send(3)
    peer.is_mute = False
    cancel = httpx.delete(f"{stage.url}/v1/orders/acc/x")
    for thread in threads:
        thread.join(5)

    assert (full.status_code, full.json()["error"]["code"]) == (503, "CREDITS")
    assert cancel.status_code == 202


def test_the_engines_drain_is_answered_and_survived(running: Stage) -> None:
    """In drain orders are 503 and Drained is said; the next engine is served again."""
    peer = running.peers[0]
    peer.send_all(Drain(2000))

    assert peer.drained.wait(5)
    answer = running.send(1)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DRAINING")
    assert answer.headers["connection"] == "close"
    running.kill_engine()
    running.engine()
    running.sidecars[0].wait_open(epoch=2)

    until(lambda: running.send(2).status_code == 201, "acceptance by the next engine")


def test_a_stop_answers_what_is_in_flight_then_leaves(stage: Stage) -> None:
    """The request under way gets its answer, the engine hears Drained and Leave."""
    peer = stage.engine()
    sidecar = stage.start(drain_ms=3000)
    sidecar.wait_open()
    peer.holds_risk = True
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(stage.send(1)))
    thread.start()
    until(lambda: stage.journal.items, "a submit")

    sidecar.stop()

    thread.join(5)
    assert answers[0].status_code == 503
    assert isinstance(until(lambda: Leave() in peer.received and peer.received[-2], "Leave"), Drained)


def test_metrics_and_schema_tell_what_is(running: Stage) -> None:
    """Counters move with orders; the OpenAPI document has the real models and paths."""
    running.send(1)
    running.send(2, strategy="refuse")
    running.post(b"{}")

    text = httpx.get(f"{running.url}/metrics").text
    assert 'wojak_sidecar_received_total{source="http"} 2.0' in text
    assert 'wojak_sidecar_settled_total{result="ok",source="http"} 1.0' in text
    assert 'wojak_sidecar_settled_total{result="reject",source="http"} 1.0' in text
    assert 'wojak_sidecar_answers_total{source="http",status="400"} 1.0' in text
    assert 'wojak_sidecar_receive_to_settle_seconds_count{source="http"} 2.0' in text
    assert 'wojak_sidecar_epoch{source="http"} 1.0' in text
    schema = httpx.get(f"{running.url}/schema/openapi.json").json()
    assert set(schema["paths"]["/v1/orders"]["post"]["responses"]) >= {"200", "201", "202", "422", "503", "504"}
    assert "delete" in schema["paths"]["/v1/orders/{account}/{client_order_id}"]
    assert schema["components"]["schemas"]["NewOrderRequest"]["required"][:2] == ["account", "strategy"]
    assert httpx.get(f"{running.url}/schema").status_code == 200
