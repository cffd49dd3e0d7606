"""Record of the learning-rate grid from which both families' quickstart rates are chosen.

Run the grid first, then: python benchmarks/lr_grid.py runs/lcplm-quickstart_sweep/ID
"""

import argparse
import json
from pathlib import Path

from harness import Row, write_results


def row(folder: Path) -> Row:
    """Test perplexity of one run directory, named by its model class and learning rate."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(folder / "config.yaml")
    perplexity = json.loads((folder / "results.json").read_text())["metrics"]["test/perplexity"]
    family = str(config.model._target_).rpartition(".")[2]
    case = f"{family}, lr {config.optimizer.lr:g}, {config.trainer.max_steps} steps"
    return Row(case, "test perplexity", "1", perplexity["value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, help="folder that holds the run directories")
    folders = sorted(path.parent for path in parser.parse_args().sweep.glob("*/results.json"))
    if not folders:
        parser.error("no results.json one level below this folder")
    write_results("quickstart_lr_grid", sorted(map(row, folders), key=lambda one: one.case))


if __name__ == "__main__":
    main()
