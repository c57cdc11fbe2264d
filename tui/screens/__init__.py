"""Full screens, and the modal dialogs above them."""
