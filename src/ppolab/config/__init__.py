"""Settings: their schema, their rules, and the edge where a configuration is checked."""
