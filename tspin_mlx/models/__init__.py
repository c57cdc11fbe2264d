"""Models and adapters: found, loaded, converted, saved."""
