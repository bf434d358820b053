"""What an agent's directory says of a device, for tests that show it."""

SLOT = {
    "committed": "dense 1", "manifest": "ab", "state": "staged", "goal": "dense 2",
    "refusal": None, "detail": "", "socket": "/run/x", "ready": True, "swap_waits_for": "hold",
}  # fmt: skip
SEEN = {"device": "cam-1", "pid": 1, "offline": None, "epoch": 1, "generation": 7,
        "outbox_rows": 3, "slots": {"main": SLOT}}  # fmt: skip
"""As ``status.read`` gives it."""
OUTBOX = {"event": {"rows": 1, "bytes": 90, "merged": 0, "dropped": 0},
          "summary": {"rows": 2, "bytes": 4000, "merged": 5, "dropped": 0}}  # fmt: skip
PROCESS = {"memory_bytes": 5e7, "cpu_seconds": 1.5}
ENDS = 1_900_000_000
"""Of the device's certificate."""
