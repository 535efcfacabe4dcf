"""What a compile tells its user: memory, flash, layers and proofs, as text, JSON and HTML."""

from qutec.report.data import (
    SCHEMA_VERSION,
    BufferReport,
    ExitReport,
    KernelReport,
    LayerReport,
    Report,
    TechniqueReport,
)
from qutec.report.html import report_html
from qutec.report.text import report_text

__all__ = [
    "SCHEMA_VERSION",
    "BufferReport",
    "ExitReport",
    "KernelReport",
    "LayerReport",
    "Report",
    "TechniqueReport",
    "report_html",
    "report_text",
]
