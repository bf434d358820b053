"""Lines of the log as they may leave the device: without what lets somebody in. Pure."""

import re

GONE = "…"
_RULES = (
    (re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"\b[\w-]+\.[\w-]+\.[0-9a-f]{64}\b"), GONE),  # an enrolment token
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{4,}"), rf"\1\2{GONE}"),
    (
        re.compile(
            r"(?i)((?:pass(?:word|wd|phrase)?|secret|token|api[-_]?key|pin(?:-value)?)"
            r"[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&]+)"
        ),
        rf"\1{GONE}",
    ),
    (re.compile(r"(://)[^\s/@]+@"), rf"\1{GONE}@"),
)


def redacted(text: str) -> str:
    """``text`` with tokens, passwords, keys and users of URLs left out."""
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text
