"""The hub's database: tables, the session seam and migrations."""
