__version__ = "0.1.0"

from .core.docstrings import put_documenter

put_documenter()
