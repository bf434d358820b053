"""What the hub decides: permits, budgets, rollouts, gates, alerts."""

from mutants.mutation import Mutation

ROLLOUTS = "hub/muster_hub/rollouts"
ALERTS = "hub/muster_hub/alerts"
TESTS = "tests/hub/rollouts"

MUTATIONS = ()
