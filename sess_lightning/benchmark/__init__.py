"""The paper's tables on the user's machine: each a command, `sess-lightning benchmark NAME`."""
