"""The benchmarks' peer: a line of JSON on standard input is a request, a line on standard output
its answer; REQUESTS lists them.

A case is CASE.py in the folder given: variants(**option) returns {name: function that makes a step,
or a dictionary {part: step}}. The option "precision" is not passed on: where it is "bfloat16" the
variants whose names begin with "bf16" are taken, else the others. A variant that cannot be built
here (say, no compiler for torch.compile) is left out. The time of a step with an attribute "scale"
is multiplied by it.

With more arguments (memory CASE STEPS PRECISION [VARIANT]) it serves nobody: it prints the variants;
or how many bytes the process has held at most after so many steps of one, and before them.
"""
import gc
import importlib.util
import json
import os
import sys
import time

folder, threads = sys.argv[1], int(sys.argv[2])
os.environ["OMP_NUM_THREADS"] = str(threads)
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import torch  # noqa: E402  (after the threads are set)

torch.set_num_threads(threads)
steps, counts = {}, {}

# Idle OpenMP threads spin for some milliseconds before they sleep: so long the sides keep apart.
SPIN = 0.015


def variants_of(case, option):
    spec = importlib.util.spec_from_file_location(case, os.path.join(folder, case + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    option = dict(option or {})  # an empty table of Lua arrives as a list
    bf16 = option.pop("precision", "") == "bfloat16"
    return {n: m for n, m in module.variants(**option).items() if n.startswith("bf16") == bf16}


def build(make):
    torch.manual_seed(1)
    made = make()
    return made if isinstance(made, dict) else {"": made}


def prepare(case, option, quick):
    answer = []
    for name, make in variants_of(case, option).items():
        if quick and "compile" in name:
            continue
        try:
            parts = build(make)
            for step in parts.values():
                step()
        except Exception as problem:
            print(f"peer: {case} {name} left out: {problem}", file=sys.stderr)
            continue
        steps.update({(case, name, part): step for part, step in parts.items()})
        answer.append({"name": name, "parts": {part: True for part in parts}})
    return answer


def forget(case):
    for table in (steps, counts):
        for key in [key for key in table if key[0] == case]:
            del table[key]
    gc.collect()
    return True


def clock(step, calls):
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return time.perf_counter() - start


def calibrate(step, seconds):
    calls, spent = 0, 0.0
    step()  # may have to make its inputs
    while not (spent > seconds or calls >= 3 and spent > seconds / 4):
        spent += clock(step, 1)
        calls += 1
    if spent > seconds:
        return 1
    one = clock(step, calls) / calls
    return max(1, min(int(seconds / max(one, 1e-9)) + 1, 1000000))


def measure(case, variant, part, seconds):
    time.sleep(SPIN)
    key = case, variant, part
    if key not in counts:
        counts[key] = calibrate(steps[key], seconds)
    steps[key]()
    one = clock(steps[key], counts[key]) / counts[key]
    time.sleep(SPIN)
    return one * getattr(steps[key], "scale", 1)


def set_threads(n):
    torch.set_num_threads(n)
    counts.clear()
    return True


REQUESTS = {"prepare": prepare, "time": measure, "forget": forget, "threads": set_threads}


def serve(answers):
    print(json.dumps(f"PyTorch {torch.__version__}"), file=answers)
    for line in sys.stdin:
        message = json.loads(line)
        what = message.pop("what")
        if what == "stop":
            return
        try:
            answer = REQUESTS[what](**message)
        except Exception as problem:
            answer = {"error": str(problem).replace("\n", " ")}
        print(json.dumps(answer), file=answers)


def held(what):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(what))


def memory(case, count, precision, variant=None):
    before = held("VmRSS")
    made = variants_of(case, {"precision": precision})
    if variant is None:
        return [name for name in made if "compile" not in name]
    for step in build(made[variant]).values():
        for _ in range(int(count)):
            step()
    return {"most": held("VmHWM"), "before": before}


if __name__ == "__main__":
    if sys.argv[3:4] == ["memory"]:
        print(json.dumps(memory(*sys.argv[4:])))
        sys.exit()
    to_runner = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    serve(to_runner)
