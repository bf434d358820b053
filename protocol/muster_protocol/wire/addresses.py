"""Addresses of hosts as URLs and messages have them."""


def joined(host: str, port: int) -> str:
    """``host:port``; an IPv6 address stands in brackets, as in URLs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
