"""E-mail: plain text through an SMTP server."""

import smtplib
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from email.message import EmailMessage

import msgspec

from muster_hub.alerts import posting
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.alerts.messages import iso
from muster_hub.settings.alerts import Receiver


class EmailChannel:
    """One mail a delivery."""

    def lacks(self, receiver: Receiver) -> str:
        if not receiver.to:
            return "needs addresses in `to`"
        if receiver.user and not receiver.starttls:
            return "would send its password in the clear: set `starttls`"
        return ""

    def secret_file(self, receiver: Receiver) -> str:
        return receiver.password_file

    def send(self, receiver: Receiver, secret: bytes, delivery: Outgoing) -> None:
        message = mail_of(delivery, receiver.sender, receiver.to)
        with smtplib.SMTP(
            receiver.smtp_host, receiver.smtp_port, timeout=posting.TIMEOUT_SECONDS
        ) as server:
            if receiver.starttls:
                server.starttls(context=ssl.create_default_context())
            if receiver.user:
                server.login(receiver.user, secret.decode())
            server.send_message(message)


CHANNEL = EmailChannel()


def mail_of(delivery: Outgoing, sender: str, to: Iterable[str]) -> EmailMessage:
    """A plain-text mail; its Message-ID is the delivery's, so that one sent twice is one."""
    event = msgspec.json.decode(delivery.body)
    message = EmailMessage()
    message["Subject"] = f"[muster] {event['title']}"
    message["From"], message["To"] = sender, ", ".join(to)
    message["Message-ID"] = f"<{delivery.id}@muster>"
    message["Date"] = datetime.fromtimestamp(event["at"], UTC)
    lines = [
        f"{alert['severity']:8}  {alert['state']:12}  since {iso(alert['opened'])}  "
        f"#{alert['id']} {alert['title']}"
        for alert in event["alerts"]
    ]
    message.set_content("\n".join([event["title"], "", *lines]) + "\n")
    return message
