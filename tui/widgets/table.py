"""The row under the cursor of a table."""

from __future__ import annotations

from textual.widgets import DataTable


def chosen_key(table: DataTable[object]) -> str | None:
    """Key of the row under the cursor; None in an empty table."""
    if not table.is_valid_row_index(table.cursor_row):
        return None
    return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
