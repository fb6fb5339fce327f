"""What each process of `test_team.py` runs: four steps of the trainer's tests, in the folder named."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from test_trainer import go_on

go_on(Path(sys.argv[1]), 4)
