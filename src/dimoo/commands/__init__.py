"""One file a group of commands. Imported when a command is called, so that `dimoo --help` stays quick."""
