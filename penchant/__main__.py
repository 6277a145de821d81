"""The command line as a module:  python -m penchant"""

from __future__ import annotations

from penchant.cli import main

if __name__ == "__main__":
    main()
