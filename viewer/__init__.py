"""The viewer service: result pages, Papaya, and files behind signed links."""
