"""What the hub signs, whom it lets in and do what, and what it writes down of it."""

from mutants.mutation import Mutation

SIGNING = "hub/muster_hub/signing"
IDENTITY = "hub/muster_hub/identity"
ACCESS = "hub/muster_hub/access"
AUDIT = "hub/muster_hub/audit"
MQTT = "hub/muster_hub/mqtt"

MUTATIONS = ()
