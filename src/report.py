from ppolab.cli import report

report()
