"""For whoever runs the installation: the monitor page and the dead letters, behind ADMIN_TOKEN."""
