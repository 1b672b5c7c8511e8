"""Signed requests: RFC 9421's own example, what must be covered, how old they may be, that each counts once."""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hmac import digest

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.http_client import OrdersClient, Signature
from protocol.errors import ConfigError
from runtime.clock import wall_ns
from sidecars.sources.http_keys import HttpKey, Keys, SignatureSettings
from sidecars.sources.http_models import HttpError
from sidecars.sources.http_signature import AHEAD_S, Seen, Target, parse, sign
from sidecars.sources.http_signature import _base as signature_base
from tests.unit.sidecars.conftest import DEADLINE_S, ORDER, Stage, until

SECRET = "a shared secret of thirty-two characters"
NEXT = "another shared secret of that many characters"
PATH = "/v1/orders"
NOW_S = 1_700_000_000


def now_s() -> int:
    return wall_ns() // 1_000_000_000


def headers_for(
    body: bytes, *, key: str = "desk-1", secret: str = SECRET, at_s: int | None = None, nonce: str = "", **fields: str
) -> dict[str, str]:
    """Return what a sender adds to a POST."""
    target = Target("POST", PATH, "", {name.replace("_", "-"): value for name, value in fields.items()})
    created_s = now_s() if at_s is None else at_s
    nonce = nonce or f"n-{time.monotonic_ns()}"
    return sign(target, body, key_id=key, secret=secret.encode(), created_s=created_s, nonce=nonce)


@pytest.fixture
def signing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage whose callers sign; it has stood long enough to know what it has seen."""
    for name, value in (("K1", SECRET), ("K2", NEXT), ("SHOWN", "a secret to be shown")):
        monkeypatch.setenv(name, value)
    keys = (
        HttpKey(principal="desk", name="desk-1", kind="hmac", secret_env="K1"),
        HttpKey(principal="desk", name="desk-2", kind="hmac", secret_env="K2"),
        HttpKey(principal="algo", secret_env="SHOWN"),
    )
    stage.engine()
    stage.start(keys=keys, loopback_principal="").wait_open()
    stage.sidecars[-1].source._keys._signers["desk-1"].seen.floor_s = 0
    stage.sidecars[-1].source._keys._signers["desk-2"].seen.floor_s = 0
    return stage


def body_of(number: object) -> bytes:
    return json.dumps({**ORDER, "client_order_id": f"s{number}"}).encode()


def post(stage: Stage, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(
        f"{stage.url}{PATH}", content=body, headers={"content-type": "application/json", **headers}, timeout=DEADLINE_S
    )


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_the_signature_base_and_the_mac_are_those_of_the_standard() -> None:
    """RFC 9421 B.2.5, its key, its request, its signature."""
    key = b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
    fields = {"host": "example.com", "date": "Tue, 20 Apr 2021 02:07:55 GMT", "content-type": "application/json"}
    covered = ["date", "@authority", "content-type"]
    params = '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    base = signature_base(Target("POST", "/foo", "param=Value&Pet=dog", fields), covered, params)

    assert b64encode(digest(key, base, "sha256")) == b"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


def test_a_signed_order_is_its_principals(signing: Stage) -> None:
    """201, the engine hears of the key's principal; both keys of a principal work, which is how one is replaced."""
    first = post(signing, body_of(1), headers_for(body_of(1)))
    second = post(signing, body_of(2), headers_for(body_of(2), key="desk-2", secret=NEXT))

    assert (first.status_code, second.status_code) == (201, 201)
    assert [item.principal for item in signing.journal.items] == ["desk", "desk"]


def test_a_signature_counts_once(signing: Stage) -> None:
    """The same bytes again are 409; signed again they are the same order, answered as a repeat."""
    headers = headers_for(body_of(1))
    first = post(signing, body_of(1), headers)
    replayed = post(signing, body_of(1), headers)
    again = post(signing, body_of(1), headers_for(body_of(1)))

    assert (first.status_code, refusal(replayed)) == (201, (409, "SIGNATURE_REPLAYED"))
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert len(signing.journal.items) == 2


@pytest.mark.parametrize("offset_s", [-31, -3600, AHEAD_S + 2, 3600])
def test_a_signature_of_another_time_is_refused(signing: Stage, offset_s: int) -> None:
    """401 with both clocks, whether too old or ahead."""
    answer = post(signing, body_of(1), headers_for(body_of(1), at_s=now_s() + offset_s))

    assert refusal(answer) == (401, "SIGNATURE_STALE")
    assert "set the clock" in answer.json()["error"]["text"]
    assert signing.journal.items == []


@pytest.mark.parametrize(
    "change",
    [
        lambda h, b: ({**h, "signature": h["signature"].replace(h["signature"][8], "A", 1)}, b),
        lambda h, b: (h, b.replace(b"0.01", b"0.09")),
        lambda h, b: ({**h, "content-digest": headers_for(b"x")["content-digest"]}, b),
        lambda h, b: ({**h, "signature-input": h["signature-input"].replace("desk-1", "desk-2")}, b),
        lambda h, b: ({**h, "signature-input": h["signature-input"].replace("desk-1", "nobody")}, b),
        lambda h, b: ({**h, "signature-input": h["signature-input"].replace('nonce="n', 'nonce="m')}, b),
        lambda h, b: ({**h, "signature-input": h["signature-input"].replace(' "content-digest"', "")}, b),
        lambda h, b: ({**h, "signature-input": h["signature-input"].replace(' "@path"', "")}, b),
        lambda h, b: ({**h, "signature-input": h["signature-input"].replace("hmac-sha256", "rsa-v1_5-sha256")}, b),
        lambda h, b: ({**h, "idempotency-key": "other"}, b),
        lambda h, b: ({k: v for k, v in h.items() if k != "signature"}, b),
        lambda h, b: ({k: v for k, v in h.items() if k != "content-digest"}, b),
    ],
    ids=["mac", "body", "digest", "other key", "no key", "nonce", "uncovered body", "uncovered path", "algorithm",
         "uncovered id", "no signature", "no digest"],
)  # fmt: skip
def test_a_changed_request_is_refused(signing: Stage, change: object) -> None:
    """Whatever was changed on the way: 401, and the engine hears nothing."""
    body = body_of(1)
    headers, sent = change(headers_for(body), body)  # type: ignore[operator]
    answer = post(signing, sent, headers)

    assert refusal(answer) == (401, "SIGNATURE")
    assert "accept-signature" in answer.headers
    assert signing.journal.items == []


def test_an_unknown_key_and_a_wrong_one_hear_the_same(signing: Stage) -> None:
    """Nobody can find out by answers which keys there are: texts differ by the hash of what was sent alone."""
    wrong = post(signing, body_of(1), headers_for(body_of(1), secret=NEXT))
    unknown = post(signing, body_of(1), headers_for(body_of(1), key="nobody"))

    texts = [a.json()["error"]["text"].split("SHA-256")[0] for a in (wrong, unknown)]
    assert texts[0] == texts[1]
    assert "desk" not in texts[0]


def test_a_secret_is_used_in_one_way_only(signing: Stage) -> None:
    """The secret of a key that signs opens nothing when shown, and the other way round."""
    shown = signing.post({**ORDER, "client_order_id": "1"}, authorization=f"Bearer {SECRET}")
    signed = post(signing, body_of(2), headers_for(body_of(2), key="", secret="a secret to be shown"))

    assert (shown.status_code, signed.status_code) == (401, 401)


def test_the_command_signs_each_attempt_anew(signing: Stage) -> None:
    """`wojak order` with --sign: order, replace and cancel of a leg's id, each under its own nonce."""
    client = OrdersClient(signing.url, {}, Signature("desk-1", SECRET))

    answers = [
        client.send({**ORDER, "client_order_id": "b/1"}),
        client.replace("acc", "b/1", {"client_order_id": "r", "price": "1"}),
        client.cancel("acc", "b/1"),
    ]
    client.close()

    assert [a["outcome"] for a in answers] == ["ACCEPTED"] * 3


def test_after_a_restart_nothing_from_before_counts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds that the old process may have seen are 503, sign again; what is signed again is taken."""
    monkeypatch.setenv("K1", SECRET)
    keys = (HttpKey(principal="desk", name="desk-1", kind="hmac", secret_env="K1"),)
    stage.engine()
    stage.start(keys=keys, loopback_principal="").wait_open()
    captured = headers_for(body_of(1))

    assert refusal(post(stage, body_of(1), captured)) == (503, "SIGN_AGAIN")
    answer = until(
        lambda: (a := post(stage, body_of(1), headers_for(body_of(1)))).status_code == 201 and a, "a signed order"
    )
    assert answer.json()["outcome"] == "ACCEPTED"
    assert refusal(post(stage, body_of(1), captured)) == (503, "SIGN_AGAIN")


def test_a_replay_at_another_process_has_no_effect(signing: Stage) -> None:
    """Each process remembers for itself; behind both the engine knows the order, and the repeat is marked as one."""
    headers = headers_for(body_of(1))
    first = post(signing, body_of(1), headers)
    other = signing.start(keys=signing.sidecars[0].settings.keys, loopback_principal="", state_file="other")
    other.wait_open()
    other.source._keys._signers["desk-1"].seen.floor_s = 0
    replayed = post(signing, body_of(1), headers)

    assert (first.status_code, replayed.status_code) == (201, 201)
    assert replayed.headers["idempotent-replayed"] == "true"
    assert len(signing.journal.outcomes) == 1


# The memory of signatures


def test_what_is_forgotten_is_refused() -> None:
    """Full, it forgets the oldest second and everything before that; a cancel needs no memory."""
    seen = Seen(3, 0)
    assert [seen.take(bytes([n]), 10 + n) for n in range(3)] == [True] * 3
    assert seen.take(b"x", 13)

    assert (len(seen), seen.floor_s) == (3, 10)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 20)), max_size=80), st.integers(1, 6))
def test_nothing_counts_twice_whatever_the_clock_does(events: list[tuple[int, int]], most: int) -> None:
    """Any signatures in any order, time going both ways, the smallest memories: at most once each, and bounded."""
    seen = Seen(most, 0)
    counted: set[tuple[int, int]] = set()
    for signature, second in events:
        seen.forget_before(second - 5)
        if second > seen.floor_s and seen.take(bytes([signature]), second):
            assert (signature, second) not in counted
            counted.add((signature, second))
        assert len(seen) <= most


def keys_at(clock: list[int], *rows: HttpKey, environ: dict[str, str], seen_max: int = 100) -> Keys:
    return Keys(rows, "", environ, signatures=SignatureSettings(30, seen_max), now_s=lambda: clock[0])


def scope_of(headers: dict[str, str], method: str = "POST", path: str = PATH) -> dict[str, object]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"method": method, "raw_path": path.encode(), "query_string": b"", "headers": raw, "client": ("10.0.0.1", 1)}


def test_a_cancel_is_taken_where_nobody_can_know() -> None:
    """Just started, a signed cancel counts; the same order would be 503."""
    clock = [NOW_S]
    keys = keys_at(clock, HttpKey(principal="p", name="k", kind="hmac", secret_env="S"), environ={"S": SECRET})
    target = Target("DELETE", "/v1/orders/a/b", "", {})
    signed = sign(target, b"", key_id="k", secret=SECRET.encode(), created_s=NOW_S, nonce="12345678")

    caller, body_digest = keys.signed(scope_of(signed, "DELETE", "/v1/orders/a/b"))

    assert (caller.principal, body_digest) == ("p", b"")
    with pytest.raises(HttpError) as caught:
        keys.signed(scope_of(headers_for(b"{}", key="k", at_s=NOW_S)))
    assert (caught.value.status, caught.value.body.code) == (503, "SIGN_AGAIN")


def test_reading_the_keys_again_forgets_no_signature() -> None:
    """A rotation in between is no way to replay: what was seen and what was spent stays."""
    clock = [NOW_S]
    row = HttpKey(principal="p", name="k", kind="hmac", secret_env="S", orders_per_s=1)
    keys = keys_at(clock, row, environ={"S": SECRET})
    clock[0] += 10
    headers = headers_for(b"{}", key="k", at_s=NOW_S + 10)
    caller, _ = keys.signed(scope_of(headers))
    caller.take(1, 1)

    keys.read((row, HttpKey(principal="p", name="k2", kind="hmac", secret_env="T", orders_per_s=1))[:1], ())

    with pytest.raises(HttpError) as caught:
        keys.signed(scope_of(headers))
    assert caught.value.body.code == "SIGNATURE_REPLAYED"
    again, _ = keys.signed(scope_of(headers_for(b"{}", key="k", at_s=NOW_S + 10)))
    assert again.take(1, 1) > 0


def test_keys_of_one_principal_share_its_rate() -> None:
    """Two keys are no way around it, and rows that disagree are named."""
    rows = [HttpKey(principal="p", secret_env=name, orders_per_s=2) for name in ("S", "T")]
    environ = {"S": SECRET, "T": NEXT}
    keys = Keys(rows, "", environ)
    callers = [keys.find({b"x-api-key": secret.encode()}, "") for secret in (SECRET, NEXT)]

    assert callers[0] is callers[1]
    with pytest.raises(ConfigError, match="the rate is the principal's"):
        Keys([rows[0], HttpKey(principal="p", secret_env="T", orders_per_s=3)], "", environ)


def test_a_signing_key_needs_a_name_and_a_long_secret() -> None:
    """Each fault is named; a secret of 31 characters is too short for a MAC."""
    rows = [
        HttpKey(principal="p", kind="hmac", secret_env="S"),
        HttpKey(principal="p", kind="hmac", name="k", secret_env="SHORT"),
    ]
    with pytest.raises(ConfigError) as caught:
        Keys(rows, "", {"S": SECRET, "SHORT": "x" * 31})

    assert len(caught.value.problems) == 2


# Whatever comes


def requests() -> Iterator[st.SearchStrategy[object]]:
    texts = st.text(st.characters(max_codepoint=255), max_size=40)
    good = headers_for(b"{}", at_s=NOW_S, nonce="12345678")
    pieces = st.sampled_from([*good["signature-input"].replace(";", " ; ").split(" "), '"', "(", ")", "=", ":", ";"])
    yield st.fixed_dictionaries(
        {"signature-input": texts | st.lists(pieces, max_size=12).map("".join) | st.just(good["signature-input"])},
        optional={
            "signature": texts | st.just(good["signature"]),
            "content-digest": texts | st.just(good["content-digest"]),
            "idempotency-key": texts,
            "host": texts,
        },
    )


@given(
    next(requests()), st.sampled_from(["POST", "PUT", "DELETE"]), st.text(st.characters(max_codepoint=255), max_size=20)
)
def test_any_signature_is_read_or_refused(fields: dict[str, str], method: str, query: str) -> None:
    """The reader raises 401 and nothing else; what it reads is by no key."""
    status, signed = 401, None
    try:
        signed = parse(Target(method, PATH, query, fields), NOW_S, 30)
    except HttpError as e:
        status = e.status

    assert status == 401
    assert signed is None or not signed.matches(NEXT.encode())
