"""The hub as a process: serving, setting up, backing up."""
