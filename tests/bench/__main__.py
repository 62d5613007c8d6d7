"""``python -m tests.bench [NAME …]``: run the benchmarks, print a table, write var/bench.json."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from tests.bench.harness import Bench, Result, discover, run, table

OUTPUT = Path("var/bench.json")


def main(arguments: list[str]) -> int:
    """Exit status: 0 all ran, 1 one failed, 2 no benchmark of that name."""
    options = _options(arguments)
    logging.disable(logging.CRITICAL)  # what a benchmark provokes on purpose is no news
    benches = [bench for bench in discover() if _wanted(bench, options.names)]
    if not benches:
        print(f"no benchmark is called {' or '.join(options.names)}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{bench.name}: against {bench.peer_name}" for bench in benches))
        return 0
    results = [result for bench in benches if (result := _attempt(bench, options.rounds, options.seconds))]
    print("\n".join(table(results)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False) + "\n")
    return 0 if len(results) == len(benches) else 1


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="names, their beginnings or patterns; without any, all are run")
    parser.add_argument("--rounds", type=int, help="turns each side takes")
    parser.add_argument("--seconds", type=float, help="length of one turn")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--list", action="store_true", help="name the benchmarks and stop")
    return parser.parse_args(arguments)


def _wanted(bench: Bench, names: list[str]) -> bool:
    return not names or any(bench.name.startswith(name) or fnmatchcase(bench.name, name) for name in names)


def _attempt(bench: Bench, rounds: int | None, seconds: float | None) -> Result | None:
    print(f"{bench.name} …", file=sys.stderr, flush=True)
    try:
        return run(bench, rounds, seconds)
    except Exception:
        traceback.print_exc()
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
