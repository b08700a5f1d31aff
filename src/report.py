from ppolab.cli.commands import report

if __name__ == "__main__":
    report()
