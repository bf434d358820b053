"""Sparkplug B: the payload, an edge node that answers, and a host that reads one."""
