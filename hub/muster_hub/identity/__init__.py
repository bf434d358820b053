"""The hub's certificate authority, enrolment, and devices' proofs."""
