"""The demo: real digits, real agents, a real broker, and four bad releases that devices refuse."""
