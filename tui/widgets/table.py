"""Table rows: the row under the cursor of a DataTable."""

from __future__ import annotations

from textual.widgets import DataTable


def cursor_row_key(table: DataTable[object]) -> str | None:
    """Return the key of the row under the cursor; None if the table is empty."""
    if not table.is_valid_row_index(table.cursor_row):
        return None
    return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
