"""The upload service: takes scans in, checks them at the door, puts them in line, tells how jobs stand."""
