"""The benchmarks' peer: reads "prepare CASE", "time CASE VARIANT COUNT", "stop" from standard input.

A case is CASE.py in the folder given: variants() returns {name: function that makes a step}. A
variant that cannot be built here (say, no compiler for torch.compile) is left out.
"""
import importlib.util
import os
import sys
import time

folder, threads = sys.argv[1], int(sys.argv[2])
os.environ["OMP_NUM_THREADS"] = str(threads)
import torch  # noqa: E402  (after the threads are set)

torch.set_num_threads(threads)
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what libraries print goes to standard error
steps = {}


def prepare(case):
    spec = importlib.util.spec_from_file_location(case, os.path.join(folder, case + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = []
    for name, make in module.variants().items():
        try:
            torch.manual_seed(1)
            step = make()
            for _ in range(3):
                step()
        except Exception as problem:
            print(f"peer: {case} {name} left out: {problem}", file=sys.stderr)
            continue
        steps[case, name.replace(" ", "_")] = step
        names.append(name)
    return " ".join(name.replace(" ", "_") for name in names)


def measure(case, name, count):
    step = steps[case, name]
    step()
    start = time.perf_counter()
    for _ in range(count):
        step()
    return repr((time.perf_counter() - start) / count)


print(f"PyTorch {torch.__version__}", file=answers)
for line in sys.stdin:
    words = line.split()
    try:
        if words[0] == "stop":
            break
        if words[0] == "prepare":
            print(prepare(words[1]), file=answers)
        elif words[0] == "time":
            print(measure(words[1], words[2], int(words[3])), file=answers)
    except Exception as problem:
        print("error " + str(problem).replace("\n", " "), file=answers)
