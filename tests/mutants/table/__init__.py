"""The mutations of ``make mutants``: safety-relevant lines, each with what it breaks."""

from mutants.table import (
    agent_isolation,
    agent_trust,
    agent_update,
    agent_worker,
    hub_decisions,
    hub_hostile,
    hub_trust,
    protocol,
)

TABLE = (
    *agent_update.MUTATIONS,
    *agent_trust.MUTATIONS,
    *agent_worker.MUTATIONS,
    *agent_isolation.MUTATIONS,
    *protocol.MUTATIONS,
    *hub_decisions.MUTATIONS,
    *hub_hostile.MUTATIONS,
    *hub_trust.MUTATIONS,
)
