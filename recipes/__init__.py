"""Ready recipes: YAML files, and the small data they need."""
