"""What this project claims to cost, measured by anybody: `make bench ONLY=name`."""
