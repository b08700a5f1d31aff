"""Where the time of an update on images goes: Atari's Pong, the Nature network, minibatches of 256.

    python benchmarks/image_profile.py

A training runs in a fresh process. PyTorch's profiler watches its sixth update; in bfloat16 it is compiled by then, as
in runs of the usual length. The table shows each operator's own time, and the share of those that multiply matrices or
convolve. The C++ code that convolves also converts bytes, transposes and applies ReLU. Of that, the share counts what
its products take alone, in a small program that is compiled for this, with one thread.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import HERE, ROOT, run_child
from result_tables import markdown

sys.path.append(str(HERE / "peers"))

PROFILED = 6
SETTINGS = (
    "experiment=atari", "total_steps=8192", "logger=none", "eval_interval=0", "eval_episodes=1", "progress=off",
)  # fmt: skip
IN_NATIVE = ("_Convolutions", "_ConvolutionsBackward")
"""Operators whose time is that of the C++ code."""
KERNELS = ("conv", "aten::mm", "aten::addmm", "matrix_product", "linear_pointwise")
"""Parts of the names of operators that compute products."""
LINES = 12


def main() -> None:
    """Measure in a fresh process, print the table and store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        arguments.inside.write_text(json.dumps(profiled(arguments.precision)))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--precision", arguments.precision, "--inside", f"{folder}/result.json"]
        record = run_child(command, Path(folder)).record
    text = "\n".join(table(record["operators"], record["share"])) + "\n"
    print(text)
    (ROOT / f"docs/results/image_profile_{arguments.precision}.md").write_text(text)


def profiled(precision: str) -> dict[str, Any]:
    """Train in this process; return (name, own microseconds) of every operator of the profiled update."""
    from ppolab_command import train
    from torch.profiler import ProfilerActivity, profile

    from ppolab.learning.learner import Learner

    update, seen = Learner.update, []

    def watched(learner: Learner, *arguments: Any) -> Any:
        seen.append(None)
        if len(seen) != PROFILED:
            return update(learner, *arguments)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            stats = update(learner, *arguments)
        operators.extend((event.key, event.self_cpu_time_total) for event in found.key_averages())
        return stats

    operators: list[tuple[str, float]] = []
    Learner.update = watched  # type: ignore[method-assign, assignment]
    compiled = ["compile=true"] if precision == "bf16" else []
    code = train([*SETTINGS, f"trainer.precision={precision}", *compiled])
    if code:
        sys.exit(code)
    return {"operators": operators, "share": share_of_products()}


PRODUCTS = """
#include "convolutions.hpp"
using namespace ppolab;

extern "C" {
void whole(const Convolution* layers, const LayerWeights* weights, const LayerWeights* slopes, const Images* images,
           float* kept, float* features) {
    const Convolutions all{layers, 3, weights};
    all.forward(1, *images, kept, features);
    all.backward(1, *images, kept, features, features, slopes);
}

void products(const Convolution* layers, int64_t rows, float* numbers) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < 3; ++i) {
            float *const in = numbers, *const out = in + (1 << 16), *const weights = out + (1 << 16);
            convolve(layers[i], in, weights, weights, out);
            add_slopes_of_weights(layers[i], in, out, weights, weights);
            if (i) slopes_of_input(layers[i], out, weights, in);
        }
}
}
"""
ROWS = 128


def share_of_products() -> float:
    """Return what share of the C++ code's time its products take, for the Nature network and one thread."""
    import torch

    from ppolab.learning.native.convolutions import _pointers
    from ppolab.learning.native.library import SOURCES, _options, compiler
    from ppolab.learning.native.structures import NativeConvolution, NativeImages

    shapes = (NativeConvolution * 3)((4, 84, 84, 32, 8, 4), (32, 20, 20, 64, 4, 2), (64, 9, 9, 64, 3, 1))
    weights = [torch.randn(size) / 30 for size in (8192, 32, 32768, 64, 36864, 64)]
    slopes = [torch.empty_like(each) for each in weights]
    frames = torch.randint(0, 256, (ROWS, 4 * 84 * 84), dtype=torch.uint8)
    images = NativeImages(frames.data_ptr(), ROWS, frames.stride(0), False, None)
    kept, features, numbers = torch.empty(ROWS, 17984), torch.empty(ROWS, 3136), torch.zeros(3 << 16)
    with tempfile.TemporaryDirectory() as folder:
        Path(f"{folder}/products.cpp").write_text(PRODUCTS)
        where = f"-I{SOURCES[0].parent}"
        command = [str(compiler()), *_options(), where, f"{folder}/products.cpp", "-o", f"{folder}/products.so"]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(f"{folder}/products.so")
    pointer = ctypes.c_void_p

    def whole() -> None:
        library.whole(
            shapes, _pointers(weights), _pointers(slopes), ctypes.byref(images), pointer(kept.data_ptr()),
            pointer(features.data_ptr()),
        )  # fmt: skip

    def products() -> None:
        library.products(shapes, ctypes.c_int64(ROWS), pointer(numbers.data_ptr()))

    return min(map(_seconds, [products] * 7)) / min(map(_seconds, [whole] * 7))


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(operators: list[tuple[str, float]], share: float) -> list[str]:
    """Return the lines of a table of the slowest operators, and of the share of products.

    Args:
        share: of the C++ code's time, that of its products.
    """
    whole = sum(own for _, own in operators)
    in_native = sum(own for name, own in operators if name in IN_NATIVE)
    others = [own for name, own in operators if name not in IN_NATIVE and any(part in name for part in KERNELS)]
    products = share * in_native + sum(others)
    slowest = sorted(operators, key=lambda each: -each[1])[:LINES]
    rows = [(name.strip(" #"), f"{own / 1000:,.1f}", f"{own / whole:.1%}") for name, own in slowest]
    if in_native:
        rows.append(("products in the C++ code, of its own time", f"{share * in_native / 1000:,.1f}", f"{share:.1%}"))
    rows.append(("products of matrices and convolutions", f"{products / 1000:,.1f}", f"{products / whole:.1%}"))
    rows.append(("all of the update", f"{whole / 1000:,.1f}", "100.0%"))
    return markdown(("operator", "own ms", "share"), rows)


if __name__ == "__main__":
    main()
