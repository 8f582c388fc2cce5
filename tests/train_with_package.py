"""``python -m train_with_package '[SITE, RUNS]'``: trains runs as ``train_runs`` does, with a package from the folder SITE."""

import json
import sys

import train_runs

if __name__ == "__main__":
    site, runs = json.loads(sys.argv[1])
    sys.path.insert(0, site)
    sys.argv[1] = json.dumps(runs)
    train_runs.main()
