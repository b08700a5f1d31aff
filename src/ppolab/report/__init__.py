"""Tables and plots over many runs: which runs, grouped how, with which statistics, written where."""
