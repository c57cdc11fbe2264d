"""What everything else stands on: errors, text, paths, seeds, storage, the machine, signals."""
