"""The test suite, on two processes of one thread each (`make test`). Arguments go to pytest."""

import os
import subprocess
import sys

environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-n", "2", *sys.argv[1:]], env=environment))
