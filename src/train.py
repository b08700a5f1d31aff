from ppolab.cli.commands import train

if __name__ == "__main__":  # the processes of a sweep import this file, too
    train()
