"""Modbus TCP: blocks of registers, a connection, reading tags and writing answers."""
