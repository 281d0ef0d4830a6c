"""The command line: one small file a command. Nothing here is imported by the library."""
