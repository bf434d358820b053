"""What hub and device say to each other: topics, messages, manifests, directives, limits."""
