"""The trained policy: it acts, plays, is filmed and is exported."""
