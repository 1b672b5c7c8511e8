"""How a message reaches a receiver: signed webhook, chat bot, e-mail. One attempt each; who tries again: ``lanes``.

What can go wrong on the other side and what happens here:
- slow: an attempt ends ``timeout_s`` after it began, whatever the other side dribbles;
- gone, or refusing what it may take later (408, 425, 429, 5xx, SMTP 4xx): tried again, not before it says
  (``AFTER_S_MAX`` at most);
- refusing for good (other 4xx, a redirect, SMTP 5xx): not tried again;
- repeated: an attempt that did arrive comes again under the same id;
- lying: an answer is read to ``ANSWER_BYTES_MAX``; of a chat only ``{"ok": true}`` counts as taken.
Rule: no address, secret or answer is named in an error: an address may carry a token, an answer anything.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from cli.alerting.message import Message, body_of, lines_of, subject_of
from protocol.errors import WojakError
from runtime import webhooks

ANSWER_BYTES_MAX: Final = 64 << 10
AFTER_S_MAX: Final = 60
CHAT_CHARS_MAX: Final = 4_000
AGAIN: Final = frozenset({408, 425, 429})
SERVER_FROM: Final = 500


class DeliveryError(WojakError):
    """A message was not taken."""

    code = "ALERT_NOT_DELIVERED"

    def __init__(self, why: str, *, is_final: bool = False, after_s: int = 0) -> None:
        self.why = why
        self.is_final = is_final
        self.after_s = after_s
        super().__init__(f"{self.code}: {why}")


class Receiver(Protocol):
    """Takes messages."""

    def send(self, message: Message, now_s: int, timeout_s: float) -> None:
        """Hand over one message within ``timeout_s``; ``now_s`` is UTC.

        Raises:
            DeliveryError: If it was not taken, or nobody said that it was.
        """


class Webhook:
    """Signed JSON to an address."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._secret = secret

    def send(self, message: Message, now_s: int, timeout_s: float) -> None:
        """See ``Receiver``."""
        body = body_of(message)
        headers = webhooks.signed_headers(self._secret, now_s, message.id, body)
        post(self._url, body, headers, timeout_s, reads=False)  # its status is its word


class ChatAnswer(Struct):
    """What the API of a chat says."""

    ok: bool = False


class Chat:
    """A bot's message."""

    def __init__(self, url: str, token: str, chat_id: str) -> None:
        self._url = f"{url.rstrip('/')}/bot{token}/sendMessage"
        self._chat_id = chat_id

    def send(self, message: Message, now_s: int, timeout_s: float) -> None:
        """See ``Receiver``."""
        del now_s
        text = lines_of(message)[:CHAT_CHARS_MAX]
        body = msgspec.json.encode({"chat_id": self._chat_id, "text": text, "disable_web_page_preview": True})
        answer = post(self._url, body, {}, timeout_s)
        try:
            taken = msgspec.json.decode(answer, type=ChatAnswer).ok
        except msgspec.DecodeError:
            taken = False
        if not taken:
            raise DeliveryError('expected the answer {"ok": true}, was another')


class Email:
    """Mail over SMTP."""

    def __init__(
        self, host: str, port: int, security: str, sender: str, to: tuple[str, ...], *, user: str = "",
        password: str = "", trust: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._host, self._port, self._security = host, port, security
        self._sender, self._to = sender, to
        self._user, self._password = user, password
        self._trust = trust or ssl.create_default_context()

    def send(self, message: Message, now_s: int, timeout_s: float) -> None:
        """See ``Receiver``."""
        mail = EmailMessage()
        mail["Subject"] = subject_of(message)
        mail["From"], mail["To"] = self._sender, ", ".join(self._to)
        mail["Date"] = formatdate(now_s, usegmt=True)
        mail["Message-ID"] = f"<{message.id}@wojak.alerts>"  # the same in every attempt
        mail.set_content(lines_of(message) + "\n")
        client = smtplib.SMTP_SSL(timeout=timeout_s, context=self._trust) if self._security == "tls" else smtplib.SMTP(
            timeout=timeout_s
        )  # fmt: skip
        # Known before the connection: a certificate is checked against it.
        client._host = self._host  # type: ignore[attr-defined]
        try:
            with webhooks.ends_after(timeout_s, lambda: client.sock):
                self._hand_over(client, mail)
        except smtplib.SMTPRecipientsRefused as e:
            codes = [code for code, _ in e.recipients.values()]
            raise DeliveryError(f"SMTP refused every recipient: {codes}", is_final=min(codes) >= SERVER_FROM) from None
        except smtplib.SMTPResponseException as e:
            final = e.smtp_code >= SERVER_FROM
            raise DeliveryError(f"SMTP answered {e.smtp_code}", is_final=final) from None
        except smtplib.SMTPNotSupportedError:
            raise DeliveryError("SMTP server expected to offer STARTTLS and AUTH, does not", is_final=True) from None
        except ssl.SSLCertVerificationError:
            raise DeliveryError("SMTP server expected a certificate that is trusted, was another") from None
        except webhooks.NET_ERRORS as e:  # SMTPException is an OSError
            raise DeliveryError(f"SMTP failed: {type(e).__name__}") from None
        finally:
            client.close()

    def _hand_over(self, client: smtplib.SMTP, mail: EmailMessage) -> None:
        code, _ = client.connect(self._host, self._port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, "")
        if self._security == "starttls":
            client.starttls(context=self._trust)  # refuses to go on in the clear
        if self._user:
            client.login(self._user, self._password)
        refused = client.send_message(mail, self._sender, list(self._to))
        if refused:  # some took it: the others would get it twice if it were tried again
            raise DeliveryError(f"SMTP refused {len(refused)} of {len(self._to)} recipients", is_final=True)


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, *, reads: bool = True) -> bytes:
    """POST JSON and return the answer's body, to ``ANSWER_BYTES_MAX``.

    Raises:
        DeliveryError: If the answer is no 2xx, or there is none in time.
    """
    try:
        answer = webhooks.post(url, body, headers, timeout_s, answer_bytes_max=ANSWER_BYTES_MAX if reads else 0)
    except ssl.SSLCertVerificationError:
        raise DeliveryError("server expected a certificate that is trusted, was another") from None
    except webhooks.NET_ERRORS as e:
        raise DeliveryError(f"HTTP failed: {type(e).__name__}") from None
    if not answer.is_ok:
        status, after = answer.status, answer.headers.get("retry-after", "")
        after_s = min(int(after), AFTER_S_MAX) if after.isascii() and after.isdecimal() else 0
        raise DeliveryError(
            f"HTTP answered {status}", is_final=status < SERVER_FROM and status not in AGAIN, after_s=after_s
        )
    return answer.body
