"""`python -m unsee`: the command line, where the console command is not on the path."""

from unsee.cli import main

main()
