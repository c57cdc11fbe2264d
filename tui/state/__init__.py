"""What the screens show, without any widget: drafts, lists, followed runs, processes."""
