"""The screens that fill the terminal, and the dialogs over them."""
