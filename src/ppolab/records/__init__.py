"""Keep what a run leaves: its folder, its checkpoints, its metrics, its tracking run."""
