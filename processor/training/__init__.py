"""How the demonstration model is made and measured."""
