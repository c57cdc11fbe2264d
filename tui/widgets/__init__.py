"""Widgets shared by several screens, and helpers for Textual's own."""
