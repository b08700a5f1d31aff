"""The commands: arguments in, one line and an exit code out."""
