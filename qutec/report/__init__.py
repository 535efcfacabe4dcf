"""What a compile tells its user: memory, flash, layers and proofs, as text, JSON and HTML."""

from qutec.report.data import (
    SCHEMA_VERSION,
    BufferReport,
    ExitReport,
    KernelReport,
    LayerReport,
    RegionReport,
    Report,
    RowPart,
    SharedArena,
    TechniqueReport,
)
from qutec.report.html import report_html
from qutec.report.rows import region_reports
from qutec.report.shared import SharedReport, shared_report_html, shared_report_text
from qutec.report.text import report_text

__all__ = [
    "SCHEMA_VERSION",
    "BufferReport",
    "ExitReport",
    "KernelReport",
    "LayerReport",
    "RegionReport",
    "Report",
    "RowPart",
    "SharedArena",
    "SharedReport",
    "TechniqueReport",
    "region_reports",
    "report_html",
    "report_text",
    "shared_report_html",
    "shared_report_text",
]
