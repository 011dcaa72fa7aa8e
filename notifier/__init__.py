"""The notifier service: turns finished jobs into e-mail."""
