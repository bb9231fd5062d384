"""What the command line does and prints, one module per kind of command."""
