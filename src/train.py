from ppolab.cli import train

train()
