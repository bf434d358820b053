"""One hypothesis profile for the whole tree: no deadlines, because shared machines are slow."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "muster", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("muster")
