import subprocess
import sys


def step():
    subprocess.run([sys.executable, "-c", "import torch; print(1)"], check=True, stdout=subprocess.DEVNULL)


def variants():
    return {"import torch": lambda: step}
