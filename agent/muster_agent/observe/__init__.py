"""From what the worker recorded to what the hub has committed: fold, window, outbox, health."""
