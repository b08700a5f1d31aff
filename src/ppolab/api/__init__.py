"""ppolab from Python: what `import ppolab` offers."""
