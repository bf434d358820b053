"""Gates: what a rollout must show before it goes on."""
