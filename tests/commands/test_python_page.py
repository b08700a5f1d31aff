"""The Python code of docs/python.md, as a reader would run it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from commands import ROOT, run_command

SMALL = '"total_steps=20000", "num_envs=4", "rollout_steps=16", "eval_episodes=2"'


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    program = "\n".join(blocks)
    assert program.count('"total_steps=20000"') == 1
    (tmp_path / "page.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        + program.replace('"total_steps=20000"', SMALL.replace("20000", "128"))
    )
    answer = run_command(tmp_path, [sys.executable, "page.py"])
    assert answer.code == 0, answer.err
    assert "<Agent CartPole-v1, " in answer.out
    assert "Hopper-v5 0.1 1000000" in answer.out
    assert "outputs/reports/ppolab ['report.md', " in answer.out
    assert answer.out.rstrip().endswith("clip=2.0: must lie strictly between 0 and 1")
    assert "Traceback" not in answer.err
