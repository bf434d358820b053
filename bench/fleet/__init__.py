"""A light fleet: ten thousand virtual devices in one process, with the true protocol.

Each has its own certificate and connection, reports, sends windows and keeps them until the hub
acknowledges them, follows directives, asks for permits and swaps. None fetches, verifies or loads
a model: that is the device's own work, and costs the hub nothing.
"""
