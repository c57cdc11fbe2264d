"""Models and adapters: locate, load, convert, save."""
