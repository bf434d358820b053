"""Bytes of the hub's answers, as the client reads them."""

from muster_client.transport import ServerEvent, parse_events


def test_server_events_are_read_as_the_standard_says() -> None:
    lines = [
        ": ping",
        "",
        "id: 7",
        "event: refused",
        "data: {",
        "data: }",
        "",
        "data:x",
        "",
        "data",
    ]
    assert list(parse_events(iter(lines))) == [
        ServerEvent("7", "refused", "{\n}"),
        ServerEvent("7", "message", "x"),
    ]
