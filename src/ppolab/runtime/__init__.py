"""The processes of a run: cores, ranks, signals, fork servers, quick imports."""
