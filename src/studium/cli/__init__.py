"""The command line. One file per command; `main` is the way in; what a command needs is imported when it runs."""
