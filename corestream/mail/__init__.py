"""A mail catcher for trying: takes every mail, sends none on, shows them on a page."""
