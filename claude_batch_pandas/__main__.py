"""``python -m claude_batch_pandas`` is ``claude-batch``."""

from __future__ import annotations

import sys

from claude_batch_pandas.cli import main

sys.exit(main())
