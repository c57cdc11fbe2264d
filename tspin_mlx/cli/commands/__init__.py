"""The commands: one file each, or one for a few that share their work.

What a command needs beyond ``base`` and Rich it imports when it runs, so that ``--help`` is quick.
"""
