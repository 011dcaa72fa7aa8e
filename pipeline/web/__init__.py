"""What the two HTTP services share: problem documents, security headers, health, pages."""
