"""Who may do what: people, tokens, roles, scopes, sign-in."""
