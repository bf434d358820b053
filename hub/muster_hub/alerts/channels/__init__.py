"""How alerts reach people and systems: one file a channel."""
