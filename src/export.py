from ppolab.cli.commands import export

if __name__ == "__main__":
    export()
