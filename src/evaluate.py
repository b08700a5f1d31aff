from ppolab.cli.commands import evaluate

if __name__ == "__main__":
    evaluate()
