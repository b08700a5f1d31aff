from ppolab.cli import evaluate

evaluate()
