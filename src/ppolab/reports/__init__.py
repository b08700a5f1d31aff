"""Make tables and plots over many runs: select the runs, group them, compute statistics, write files."""
