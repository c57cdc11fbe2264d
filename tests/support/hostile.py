"""Text that must never reach a terminal or the app as anything but text."""

#: Clears the screen, writes the clipboard, follows a link, looks like Textual's markup, and turns the text around.
HOSTILE = "\x1b[2J\x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\ [/foo] [@click=app.quit]x[/] \u202eabc\x9b2J"
